"""A scene to show people: four things drift, and in five seconds each is heard, two together, and once none.

Second 0: the disc rings. 1: the triangle whistles. 2: nobody. 3: the disc rings while the square buzzes. 4: the star
plays. Nothing in the picture says who sounds.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auralsam2.data.world import scenes, surfaces
from auralsam2.data.world.shapes import Build, Shape

SIZE_PX = 512
FRAMES_PER_SECOND = 25
_SCHEDULE: tuple[tuple[Shape, ...], ...] = (("disc",), ("triangle",), (), ("disc", "square"), ("star",))


@dataclass(frozen=True)
class Showpiece:
    """The clip, before it is encoded."""

    pictures: Iterator[NDArray[np.uint8]]
    """[S, S, 3] RGB, FRAMES_PER_SECOND a second."""
    sound: NDArray[np.float32]
    """[samples, 2] at 16 kHz."""
    truth: NDArray[np.bool_]
    """[T, S, S]: what sounds, at each full second."""


def _thing(
    shape: Shape, home: tuple[float, float], colours: tuple[str, str], texture: str, spin: float
) -> scenes.Thing:
    first, second = (np.array([int(c[i : i + 2], 16) / 255 for i in (0, 2, 4)], np.float32) for c in colours)
    return scenes.Thing(
        shape,
        Build(1.0, 0.5, 5),
        surfaces.Texture(texture, (first, second), 1.8, 0.2, 0.6),
        0.145,
        home,
        sway=(0.03, 0.045),
        sway_hz=(0.11, 0.16),
        sway_phase=(7 * home[0], 5 * home[1]),
        angle=3 * home[0],
        spin=spin,
        voice=scenes.Voice(1.0, 0.1),
    )


def scene() -> scenes.Scene:
    """Build the scene itself, always the same."""
    night, dusk = np.array([0.16, 0.19, 0.29], np.float32), np.array([0.33, 0.36, 0.48], np.float32)
    things = (
        _thing("disc", (0.25, 0.27), ("ff8a3d", "ffd08a"), "gradient", 0.3),
        _thing("square", (0.75, 0.28), ("2ac9be", "11807a"), "stripes", 0.25),
        _thing("triangle", (0.28, 0.74), ("b79cff", "7a55e0"), "plain", -0.3),
        _thing("star", (0.73, 0.73), ("ffe04a", "d99a1a"), "speckle", -0.2),
    )
    sounding = np.array([[thing.shape in loud for thing in things] for loud in _SCHEDULE])
    return scenes.Scene(things, sounding, surfaces.Backdrop("clouds", (night, dusk), 5), 0.0006, (2026,))


def showpiece() -> Showpiece:
    """Render the clip of `scene`, five seconds."""
    made = scene()
    painter = scenes.Painter(made, SIZE_PX)
    num_pictures = made.num_frames * FRAMES_PER_SECOND
    pictures = (painter.draw(i / FRAMES_PER_SECOND)[0] for i in range(num_pictures))
    truth = [scenes.mask_of(painter.draw(float(second))[1], row) for second, row in enumerate(made.sounding)]
    return Showpiece(pictures, scenes.play(made), np.stack(truth))
