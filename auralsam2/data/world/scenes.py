"""A world of moving shapes that sound, drawn and played from a seed: the data that `compact` is trained and judged on.

A scene holds two to five objects, all of different classes, that drift and turn over a backdrop. Which class sounds is
never visible: only the sound tells. Frame i shows the middle of second i; the sound of second i stays inside the window
that AVSBench hears for frame i, but for the last tenths of long clips.

Splits mirror AVSBench: "single" (V1s) holds one object that ever sounds, "multi" (V1m) two or three, "unseen" both in
equal parts, with textures, backdrops and pitches that training never shows. Training and held-out clips of one seed
come from different streams and never meet.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from auralsam2.data.world import surfaces, timbres
from auralsam2.data.world.shapes import LOOK_ALIKE, SHAPES, Build, Shape, draw_build, signed_distance
from auralsam2.errors import NetworkError
from auralsam2.network.log_mel import SAMPLE_RATE

Split = Literal["single", "multi", "unseen"]
SPLITS: tuple[Split, ...] = get_args(Split)
Part = Literal["train", "held_out"]

MIN_OBJECTS, MAX_OBJECTS = 2, 5
LOOK_ALIKE_SHARE = 0.3
"""Share of scenes in which two objects differ in class only."""
SILENT_SHARE = 0.05
"""Share of scenes in which nothing ever sounds."""
NOTE_END_S = 0.84
"""Within its second. Window i of a 5-frame clip covers at least 0.00 to 0.815 s of second i."""
NOBODY = -1
_MIN_GAP = 0.27
"""Least distance between homes, in sides of the picture."""


@dataclass(frozen=True)
class Voice:
    pitch: float
    loudness: float
    """Root mean square, full scale 1."""


@dataclass(frozen=True)
class Thing:
    """One object. Lengths in sides of the picture, times in seconds, angles in radians."""

    shape: Shape
    build: Build
    texture: surfaces.Texture
    radius: float
    home: tuple[float, float]
    sway: tuple[float, float]
    sway_hz: tuple[float, float]
    sway_phase: tuple[float, float]
    angle: float
    spin: float
    voice: Voice

    def centre(self, time_s: float) -> tuple[float, float]:
        """Locate it, x to the right and y down."""
        x, y = (
            home + sway * np.sin(2 * np.pi * hz * time_s + phase)
            for home, sway, hz, phase in zip(self.home, self.sway, self.sway_hz, self.sway_phase, strict=True)
        )
        return float(x), float(y)


@dataclass(frozen=True)
class Scene:
    things: tuple[Thing, ...]
    """Back to front."""
    sounding: NDArray[np.bool_]
    """[T, number of things]: who sounds in which second."""
    backdrop: surfaces.Backdrop
    noise_floor: float
    seed: tuple[int, ...]

    @property
    def num_frames(self) -> int:
        return int(self.sounding.shape[0])


@dataclass(frozen=True)
class Clip:
    """One clip with its ground truth."""

    name: str
    frames: NDArray[np.uint8]
    """[T, S, S, 3] RGB."""
    sound: NDArray[np.float32]
    """[T * 16000, 2] in [-1, 1]."""
    masks: NDArray[np.bool_]
    """[T, S, S]: the union of the sounding objects, where they are visible."""
    scene: Scene


def _homes(rng: np.random.Generator, count: int) -> list[tuple[float, float]]:
    homes: list[tuple[float, float]] = []
    gap = _MIN_GAP
    while len(homes) < count:
        x, y = rng.uniform(0.16, 0.84, 2)
        if all(np.hypot(x - a, y - b) > gap for a, b in homes):
            homes.append((float(x), float(y)))
        gap *= 0.995  # five objects do not always fit at the full distance
    return homes


def _schedule(rng: np.random.Generator, num_frames: int, num_things: int, num_sources: int) -> NDArray[np.bool_]:
    """Each source goes on and off by itself, and tends to stay as it was."""
    sounding = np.zeros((num_frames, num_things), bool)
    if rng.uniform() < SILENT_SHARE:
        return sounding
    on_share = 0.85 if num_sources == 1 else 0.65
    for thing in rng.permutation(num_things)[:num_sources]:
        on = rng.uniform() < on_share
        for second in range(num_frames):
            if rng.uniform() < 0.6:
                on = rng.uniform() < on_share
            sounding[second, thing] = on
    return sounding


def _classes(rng: np.random.Generator, count: int) -> tuple[list[Shape], bool]:
    """Distinct classes, and whether the first two of them are look-alikes."""
    shapes = [SHAPES[i] for i in rng.permutation(len(SHAPES))]
    twins = bool(rng.uniform() < LOOK_ALIKE_SHARE)
    if twins:
        other = LOOK_ALIKE[shapes[0]]
        shapes.remove(other)
        shapes.insert(1, other)
    return shapes[:count], twins


def draw_scene(split: Split, part: Part, seed: int, index: int, num_frames: int = 5) -> Scene:
    """Scene `index` of a split: the same arguments, the same scene.

    Raises: NetworkError for an unknown split, a part that the split lacks, or a length outside 1 to 16.
    """
    if split not in SPLITS:
        raise NetworkError(f"split {split!r} is unknown; choose one of {', '.join(SPLITS)}.")
    if part == "train" and split == "unseen":
        raise NetworkError("the split 'unseen' has no training part: its textures, backdrops and pitches are held out.")
    if not 1 <= num_frames <= 16:
        raise NetworkError(f"num_frames {num_frames}; a clip holds 1 to 16 frames.")
    stream = (seed, SPLITS.index(split), int(part == "held_out"), index)
    rng = np.random.default_rng(stream)
    unseen = split == "unseen"
    backdrop = surfaces.draw_backdrop(rng, surfaces.UNSEEN_BACKDROPS if unseen else surfaces.SEEN_BACKDROPS)
    kinds = surfaces.UNSEEN_TEXTURES if unseen else surfaces.SEEN_TEXTURES
    pitches = timbres.UNSEEN_PITCHES if unseen else timbres.SEEN_PITCHES
    single = split == "single" or (unseen and index % 2 == 0)
    count = int(rng.integers(MIN_OBJECTS, MAX_OBJECTS + 1))
    num_sources = 1 if single else min(count, int(rng.integers(2, 4)))
    shapes, twins = _classes(rng, count)
    things: list[Thing] = []
    for i, (shape, home) in enumerate(zip(shapes, _homes(rng, count), strict=True)):
        texture = surfaces.draw_texture(rng, kinds, backdrop)
        radius = float(rng.uniform(0.1, 0.17))
        if twins and i == 1:
            texture, radius = things[0].texture, things[0].radius
        sway_x, sway_y = rng.uniform(0.01, 0.06, 2)
        hz_x, hz_y = rng.uniform(0.05, 0.2, 2)
        phase_x, phase_y = rng.uniform(0, 2 * np.pi, 2)
        things.append(
            Thing(
                shape,
                draw_build(rng),
                texture,
                radius,
                home,
                (float(sway_x), float(sway_y)),
                (float(hz_x), float(hz_y)),
                (float(phase_x), float(phase_y)),
                float(rng.uniform(0, 2 * np.pi)),
                float(rng.uniform(-0.5, 0.5)),
                Voice(timbres.draw_pitch(rng, pitches), float(0.1 * np.exp(rng.uniform(-1.0, 0.3)))),
            )
        )
    order = rng.permutation(count)
    sounding = _schedule(rng, num_frames, count, num_sources)
    floor = float(np.exp(rng.uniform(np.log(0.0003), np.log(0.003))))
    return Scene(tuple(things[i] for i in order), sounding[:, order], backdrop, floor, stream)


def _place(thing: Thing, size: int, time_s: float) -> tuple[slice, slice, NDArray[np.float32], NDArray[np.float32]]:
    """The part of the picture that a thing can touch, and that part's points in the thing's own frame, in radii."""
    centre_x, centre_y = (c * size for c in thing.centre(time_s))
    radius = thing.radius * size
    reach = 1.35 * radius + 2
    rows = slice(max(0, int(centre_y - reach)), min(size, int(centre_y + reach) + 1))
    columns = slice(max(0, int(centre_x - reach)), min(size, int(centre_x + reach) + 1))
    x = (np.arange(columns.start, columns.stop, dtype=np.float32) + 0.5 - np.float32(centre_x))[None, :] / radius
    y = (np.arange(rows.start, rows.stop, dtype=np.float32) + 0.5 - np.float32(centre_y))[:, None] / radius
    turn = thing.angle + thing.spin * time_s
    cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    return rows, columns, np.asarray(x * cos + y * sin, np.float32), np.asarray(y * cos - x * sin, np.float32)


class Painter:
    """Draws a scene at any moment, at one size in pixels."""

    def __init__(self, scene: Scene, size: int) -> None:
        self.scene = scene
        self.size = size
        self._backdrop = surfaces.paint_backdrop(scene.backdrop, size)
        self._grain = np.random.default_rng([*scene.seed, 1]).normal(0, 0.012, (size, size, 1)).astype(np.float32)

    def draw(self, time_s: float) -> tuple[NDArray[np.uint8], NDArray[np.int8]]:
        """Draw the picture [S, S, 3] RGB, and for each pixel [S, S] the number of the thing seen there, -1 for none."""
        picture = self._backdrop.copy()
        owners = np.full((self.size, self.size), NOBODY, np.int8)
        for number, thing in enumerate(self.scene.things):
            rows, columns, x, y = _place(thing, self.size, time_s)
            distance = signed_distance(thing.shape, x, y, thing.build) * np.float32(thing.radius * self.size)
            cover = np.clip(np.float32(0.5) - distance, 0, 1)[..., None]
            # A darker rim, a pixel or two wide, as things have.
            rim = np.clip(1 + distance / np.float32(0.012 * self.size), 0, 1)[..., None]
            paint = surfaces.paint(thing.texture, x, y) * (1 - np.float32(0.35) * rim)
            region = picture[rows, columns]
            region += (paint - region) * cover
            owners[rows, columns][distance < 0] = number
        shift = int(time_s * 37) % self.size
        picture += np.roll(self._grain, shift, axis=0)
        return np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8), owners


def mask_of(owners: NDArray[np.int8], sounding: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Select the pixels [S, S] of the things marked in `sounding` [things]."""
    # NOBODY is the last entry, counted from the end.
    return np.append(sounding, False)[owners]


def play(scene: Scene) -> NDArray[np.float32]:
    """Play the sound of a scene, [T * 16000, 2] float32: sources panned to where they are, over a faint noise floor."""
    rng = np.random.default_rng([*scene.seed, 2])
    num_samples = scene.num_frames * SAMPLE_RATE
    sound = rng.standard_normal((num_samples, 2), dtype=np.float32) * np.float32(scene.noise_floor)
    for second, row in enumerate(scene.sounding):
        for thing, sounds in zip(scene.things, row, strict=True):
            if not sounds:
                continue
            onset_s = float(rng.uniform(0, 0.22))
            pitch = thing.voice.pitch * float(np.exp(rng.uniform(-0.03, 0.03)))
            wave = timbres.note(thing.shape, pitch, NOTE_END_S - onset_s, rng) * np.float32(thing.voice.loudness)
            start = second * SAMPLE_RATE + round(onset_s * SAMPLE_RATE)
            pan = (0.15 + 0.7 * np.clip(thing.centre(second + 0.5)[0], 0, 1)) * np.pi / 2
            sound[start : start + len(wave)] += wave[:, None] * np.array([np.cos(pan), np.sin(pan)], np.float32)
    return np.asarray(np.clip(sound, -1, 1), np.float32)


def render(scene: Scene, size: int, name: str = "") -> Clip:
    """Render the clip of a scene: one frame a second, `size` x `size` pixels, with its sound and its ground truth."""
    painter = Painter(scene, size)
    drawn = [painter.draw(second + 0.5) for second in range(scene.num_frames)]
    masks = [mask_of(owners, row) for (_, owners), row in zip(drawn, scene.sounding, strict=True)]
    return Clip(name, np.stack([picture for picture, _ in drawn]), play(scene), np.stack(masks), scene)


def clip_name(split: Split, index: int) -> str:
    """Name clip `index` of a split."""
    return f"{split}-{index:05d}"


def clip(split: Split, part: Part, seed: int, index: int, size: int = 256, num_frames: int = 5) -> Clip:
    """Clip `index` of a split, `size` px. Raises NetworkError as `draw_scene` does."""
    return render(draw_scene(split, part, seed, index, num_frames), size, clip_name(split, index))


def clips(split: Split, part: Part, seed: int, count: int, size: int = 256, num_frames: int = 5) -> Iterator[Clip]:
    """Yield the first `count` clips of a split, one after the other."""
    for index in range(count):
        yield clip(split, part, seed, index, size, num_frames)
