"""What covers things in the procedural world: textures and backdrops, some seen in training, some held out."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from auralsam2.data.world.shapes import Plane

Colour = NDArray[np.float32]
"""[3] float32, RGB in [0, 1]."""

SEEN_TEXTURES = ("plain", "stripes", "gradient", "speckle")
UNSEEN_TEXTURES = ("checks", "rings", "dots")
SEEN_BACKDROPS = ("gradient", "clouds", "grain")
UNSEEN_BACKDROPS = ("waves", "tiles")
# RGB distance that keeps an object apart from what lies behind it.
MIN_CONTRAST = 0.45


@dataclass(frozen=True)
class Texture:
    kind: str
    colours: tuple[Colour, Colour]
    frequency: float
    """Periods a radius."""
    phase: float
    angle: float


@dataclass(frozen=True)
class Backdrop:
    kind: str
    colours: tuple[Colour, Colour]
    seed: int


def _hsv(hue: float, saturation: float, value: float) -> Colour:
    k = (np.array([5, 3, 1]) + hue * 6) % 6
    return np.asarray(value - value * saturation * np.clip(np.minimum(k, 4 - k), 0, 1), np.float32)


def draw_backdrop(rng: np.random.Generator, kinds: tuple[str, ...]) -> Backdrop:
    """Draw two muted neighbours in colour, and a way to spread them over the picture."""
    hue, value = rng.uniform(), rng.uniform(0.15, 0.85)
    near = _hsv(hue, rng.uniform(0, 0.5), value)
    far = _hsv((hue + rng.uniform(-0.1, 0.1)) % 1, rng.uniform(0, 0.5), np.clip(value + rng.uniform(-0.25, 0.25), 0, 1))
    return Backdrop(str(rng.choice(kinds)), (near, far), int(rng.integers(2**31)))


def draw_texture(rng: np.random.Generator, kinds: tuple[str, ...], behind: Backdrop) -> Texture:
    """Draw two colours, any hue, both well apart from the backdrop's."""
    while True:
        hue = rng.uniform()
        first = _hsv(hue, rng.uniform(0.4, 1), rng.uniform(0.3, 1))
        second = np.asarray(np.clip(first * rng.uniform(0.45, 1.5), 0, 1), np.float32)
        pairs = [(mine, other) for mine in (first, second) for other in behind.colours]
        if min(float(np.linalg.norm(mine - other)) for mine, other in pairs) > MIN_CONTRAST:
            break
    angle, phase = rng.uniform(0, np.pi), rng.uniform()
    return Texture(str(rng.choice(kinds)), (first, second), float(rng.uniform(1.2, 2.6)), float(phase), float(angle))


def _wave(x: Plane, phase: float) -> Plane:
    return np.asarray(0.5 + 0.5 * np.sin(2 * np.pi * (x + phase)), np.float32)


def _speckle(x: Plane, y: Plane, texture: Texture) -> Plane:
    """Noise without a grid: three incommensurable waves, multiplied."""
    f = texture.frequency
    mixed = np.sin(7.1 * f * x + 5.3 * f * y + texture.phase * 9) * np.sin(5.9 * f * y - 6.7 * f * x + 1.3)
    return np.asarray(0.5 + 0.5 * mixed * np.sin(9.7 * f * x - 3.1 * f * y), np.float32)


def _checks(x: Plane, y: Plane, texture: Texture) -> Plane:
    cells = np.floor(x * texture.frequency + texture.phase) + np.floor(y * texture.frequency)
    return np.asarray(cells % 2, np.float32)


def _dots(x: Plane, y: Plane, texture: Texture) -> Plane:
    f = 1.3 * texture.frequency
    dx, dy = (x * f + texture.phase) % 1 - 0.5, (y * f) % 1 - 0.5
    return np.asarray(np.hypot(dx, dy) < 0.3, np.float32)


_SHARES: dict[str, Callable[[Plane, Plane, Texture], Plane]] = {
    "plain": lambda x, y, t: np.zeros_like(x),
    "stripes": lambda x, y, t: (_wave(x * t.frequency, t.phase) > 0.5).astype(np.float32),
    "gradient": lambda x, y, t: np.clip(0.5 + 0.5 * x, 0, 1),
    "speckle": _speckle,
    "checks": _checks,
    "rings": lambda x, y, t: (_wave(np.asarray(np.hypot(x, y) * t.frequency, np.float32), t.phase) > 0.5).astype(
        np.float32
    ),
    "dots": _dots,
}


def paint(texture: Texture, x: Plane, y: Plane) -> NDArray[np.float32]:
    """Paint [h, w, 3] RGB of an object at points in its own frame, in radii."""
    cos, sin = np.float32(np.cos(texture.angle)), np.float32(np.sin(texture.angle))
    share = _SHARES[texture.kind](x * cos + y * sin, y * cos - x * sin, texture)[..., None]
    first, second = texture.colours
    return np.asarray(first + (second - first) * share, np.float32)


def _noise(rng: np.random.Generator, cells: int, size: int) -> Plane:
    grid = rng.uniform(0, 1, (cells, cells)).astype(np.float32)
    return np.asarray(Image.fromarray(grid).resize((size, size), Image.Resampling.BICUBIC), np.float32)


def paint_backdrop(backdrop: Backdrop, size: int) -> NDArray[np.float32]:
    """Paint [size, size, 3] RGB in [0, 1]."""
    rng = np.random.default_rng(backdrop.seed)
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    x, y = axis[None, :], axis[:, None]
    angle = rng.uniform(0, 2 * np.pi)
    slope = np.asarray(x * np.cos(angle) + y * np.sin(angle), np.float32)
    if backdrop.kind == "clouds":
        share = 0.6 * _noise(rng, 5, size) + 0.3 * _noise(rng, 13, size) + 0.1 * _noise(rng, 40, size)
        share = (share - 0.5) * 2 + 0.5
    elif backdrop.kind == "grain":
        share = 0.4 * _noise(rng, 90, size) + 0.3
    elif backdrop.kind == "waves":
        share = _wave(
            np.float32(rng.uniform(1.5, 3)) * slope + 0.3 * _wave(np.asarray(x * rng.uniform(1, 2), np.float32), 0.2),
            rng.uniform(),
        )
    elif backdrop.kind == "tiles":
        cells = rng.uniform(2.0, 4.0)
        share = 0.8 * ((np.floor(x * cells + rng.uniform()) + np.floor(y * cells + rng.uniform())) % 2) + 0.1
    else:
        share = 0.5 + 0.45 * slope
    first, second = backdrop.colours
    return np.asarray(first + (second - first) * np.clip(share, 0, 1)[..., None], np.float32)
