"""The six shapes of the procedural world, as signed distances, and how each varies within its class.

A distance is in units of the shape's radius, negative inside, and right to first order at the edge: enough to draw a
soft edge and to label the pixels inside.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]
Shape = Literal["disc", "ring", "square", "cross", "triangle", "star"]
SHAPES: tuple[Shape, ...] = get_args(Shape)
LOOK_ALIKE: dict[Shape, Shape] = {
    "disc": "ring",
    "ring": "disc",
    "square": "cross",
    "cross": "square",
    "triangle": "star",
    "star": "triangle",
}
"""The shape most easily mistaken for another: it differs in a hole, in notches, or in its number of points."""


@dataclass(frozen=True)
class Build:
    """What varies within a class. Every shape reads the numbers that mean something to it."""

    aspect: float
    """Width over height, 0.8 to 1.25."""
    detail: float
    """0 to 1: the hole of a ring, the corner of a square, the arms of a cross, the notches of a star."""
    num_points: int
    """Points of a star, 5 to 7."""


def draw_build(rng: np.random.Generator) -> Build:
    """Draw a member of the class, uniformly."""
    return Build(float(np.exp(rng.uniform(-0.22, 0.22))), float(rng.uniform()), int(rng.integers(5, 8)))


def _box(x: Plane, y: Plane, width: float, height: float, corner: float) -> Plane:
    dx, dy = np.abs(x) - width + corner, np.abs(y) - height + corner
    outside = np.hypot(np.maximum(dx, 0), np.maximum(dy, 0))
    return np.asarray(outside + np.minimum(np.maximum(dx, dy), 0) - corner, np.float32)


def _disc(x: Plane, y: Plane, build: Build) -> Plane:
    return np.asarray(np.hypot(x, y) - 1, np.float32)


def _ring(x: Plane, y: Plane, build: Build) -> Plane:
    width = 0.48 - 0.14 * build.detail
    return np.asarray(np.abs(np.hypot(x, y) - 1 + width / 2) - width / 2, np.float32)


def _square(x: Plane, y: Plane, build: Build) -> Plane:
    return _box(x, y, 0.85, 0.85, 0.25 * build.detail)


def _cross(x: Plane, y: Plane, build: Build) -> Plane:
    arm = 0.28 + 0.12 * build.detail
    return np.minimum(_box(x, y, 1.0, arm, 0.0), _box(x, y, arm, 1.0, 0.0))


def _triangle(x: Plane, y: Plane, build: Build) -> Plane:
    inner = 0.5
    angles = 2 * np.pi / 3 * (np.arange(3) + 0.5)
    first, second, third = (np.asarray(x * np.sin(a) - y * np.cos(a) - inner, np.float32) for a in angles)
    return np.asarray(np.maximum(np.maximum(first, second), third), np.float32)


def _star(x: Plane, y: Plane, build: Build) -> Plane:
    """One half of one point, folded over the angle: an edge from the tip (1, 0) to the notch."""
    sector = np.pi / build.num_points
    notch = 0.58 - 0.16 * build.detail
    angle = np.abs((np.arctan2(x, -y) + sector) % (2 * sector) - sector)
    radius = np.hypot(x, y)
    along, across = radius * np.cos(angle), radius * np.sin(angle)
    edge = np.array([notch * np.cos(sector) - 1, notch * np.sin(sector)])
    normal = np.array([edge[1], -edge[0]]) / np.hypot(*edge)
    return np.asarray((along - 1) * normal[0] + across * normal[1], np.float32)


_DISTANCES: dict[Shape, Callable[[Plane, Plane, Build], Plane]] = {
    "disc": _disc,
    "ring": _ring,
    "square": _square,
    "cross": _cross,
    "triangle": _triangle,
    "star": _star,
}


def signed_distance(shape: Shape, x: Plane, y: Plane, build: Build) -> Plane:
    """Distance of each point to the edge, in radii, negative inside.

    Args:
        shape: one of SHAPES.
        x, y: [h, w] float32, the points in the shape's own frame, in radii; y points down.
    """
    stretch = float(np.sqrt(build.aspect))
    return _DISTANCES[shape](x / np.float32(stretch), y * np.float32(stretch), build)
