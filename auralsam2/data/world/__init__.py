"""The procedural world: moving shapes that sound, which training, evaluation and the gates of export draw from."""

from auralsam2.data.world.scenes import (
    NOBODY,
    SPLITS,
    Clip,
    Painter,
    Part,
    Scene,
    Split,
    Thing,
    Voice,
    clip,
    clips,
    draw_scene,
    mask_of,
    play,
    render,
)

__all__ = [
    "NOBODY",
    "SPLITS",
    "Clip",
    "Painter",
    "Part",
    "Scene",
    "Split",
    "Thing",
    "Voice",
    "clip",
    "clips",
    "draw_scene",
    "mask_of",
    "play",
    "render",
]
