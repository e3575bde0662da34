"""A clip to try the service with: three shapes drift over a soft backdrop, and one at a time makes itself heard.

Second by second, over again: the circle hums on the left (two seconds), nobody sounds, the square chirps on the right
(two seconds). The shape that sounds swells with its sound; the triangle never sounds. Everything is computed, so that
the clip can be given away, and the same seed gives the same clip.
"""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from service.errors import BadInput
from service.overlay import AAC_RATE, write_video

WIDTH, HEIGHT, RATE = 640, 480, 25
MAX_SECONDS = 60
SCHEDULE = ("circle", "circle", None, "square", "square")

Plane = NDArray[np.float32]

_COLOURS = {"circle": (255, 138, 61), "square": (42, 201, 190), "triangle": (150, 120, 235)}
_PANS = {"circle": (0.95, 0.15), "square": (0.15, 0.95)}
_RADIUS_PX = {"circle": 62.0, "square": 54.0, "triangle": 52.0}


def write_demo_clip(path: str | Path, seed: int = 0, seconds: int = 5) -> Path:
    """Write the clip as MP4: 640 x 480, 25 frames a second, H.264, AAC stereo.

    Args:
        path: replaced if it is there; the folder must exist.
        seed: chooses the backdrop and the paths of the shapes.
        seconds: whole seconds, 1 to 60.
    Returns: the path.
    Raises: BadInput when seconds is out of range or the file cannot be written; ConfigError without libx264.
    """
    if not 1 <= seconds <= MAX_SECONDS:
        raise BadInput(f"seconds = {seconds}; must be 1 to {MAX_SECONDS}. The schedule repeats after {len(SCHEDULE)}.")
    pictures = ((picture, 1) for picture in _pictures(seed, seconds))
    return write_video(path, pictures, Fraction(RATE), _sound(seed, seconds), AAC_RATE)


def _sounding(shape: str, time_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Loudness of a shape over time, 0 to 1; swells and fades within 60 ms so that nothing clicks."""
    seconds = np.floor(time_s).astype(int) % len(SCHEDULE)
    on = np.array([name == shape for name in SCHEDULE])
    phase = time_s % 1
    swell = np.where(on[seconds - 1], 1.0, np.clip(phase / 0.06, 0, 1))
    fade = np.where(on[(seconds + 1) % len(SCHEDULE)], 1.0, np.clip((1 - phase) / 0.06, 0, 1))
    # The clip opens from silence, whatever the schedule ends with.
    swell = np.where(time_s < 1, np.clip(time_s / 0.06, 0, 1), swell)
    return np.asarray(on[seconds] * swell * fade)


def _beat(shape: str, time_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """How the sound of a shape swells, 0 to 1: the circle's hum breathes, the square's chirps come four a second."""
    if shape == "circle":
        return 0.7 + 0.3 * np.sin(2 * np.pi * 2 * time_s)
    return np.clip(1 - (time_s * 4 % 1) / 0.7, 0, 1)


def _sound(seed: int, seconds: int) -> NDArray[np.float32]:
    """[S, 2] float32 at 48 kHz."""
    time_s = np.arange(seconds * AAC_RATE) / AAC_RATE
    hum = sum(np.sin(2 * np.pi * 110 * k * time_s) / k**1.2 for k in range(1, 8))
    stroke_s = time_s * 4 % 1 / 4
    noise = np.random.default_rng([seed, 1]).uniform(-1, 1, len(time_s))
    chirp = np.sin(2 * np.pi * (1400 * stroke_s + 5200 * stroke_s**2)) + 0.25 * noise
    sound = np.zeros((len(time_s), 2))
    for shape, wave, level in (("circle", hum, 0.28), ("square", chirp, 0.4)):
        loudness = level * _sounding(shape, time_s) * _beat(shape, time_s)
        sound += (loudness * wave)[:, None] * _PANS[shape]
    return np.clip(sound, -1, 1).astype(np.float32)


def _pictures(seed: int, seconds: int) -> Iterator[NDArray[np.uint8]]:
    rng = np.random.default_rng([seed, 0])
    backdrop = _backdrop(rng)
    drift = {shape: rng.uniform(0, 2 * np.pi, 2) for shape in _COLOURS}
    # Circle left, square right, triangle between: paths that never meet keep every mask whole.
    homes = {"circle": (0.23, 0.5), "triangle": (0.5, 0.5), "square": (0.77, 0.5)}
    for index in range(seconds * RATE):
        picture = backdrop.copy()
        now = np.array([index / RATE])
        for shape, (x, y) in homes.items():
            phase = drift[shape] + 2 * np.pi * now[0] * np.array([0.16, 0.23])
            centre = (WIDTH * x + 16 * np.sin(phase[0]), HEIGHT * y + 105 * np.sin(phase[1]))
            loudness = float((_sounding(shape, now) * _beat(shape, now))[0])
            turn = {"circle": 0.0, "square": 0.5, "triangle": -0.35}[shape] * now[0]
            _draw(picture, shape, centre, _RADIUS_PX[shape] * (1 + 0.14 * loudness), turn, loudness)
        yield np.rint(picture).astype(np.uint8)


def _backdrop(rng: np.random.Generator) -> Plane:
    """[H, W, 3]: dusk-blue clouds of noise at four scales, darker towards the corners."""
    clouds = np.zeros((HEIGHT, WIDTH), np.float32)
    for cells, weight in ((3, 0.5), (7, 0.27), (17, 0.15), (60, 0.08)):
        noise = rng.uniform(0, 1, (cells, round(cells * WIDTH / HEIGHT))).astype(np.float32)
        clouds += weight * np.asarray(Image.fromarray(noise).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))
    y, x = np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j]
    light = 1 - 0.32 * (x**2 + y**2) / 2
    dark, bright = np.array([34, 44, 72]), np.array([128, 142, 170])
    # The clouds' values crowd around one half; spread them over the two colours.
    share = np.clip((clouds - 0.5) * 2.4 + 0.5, 0, 1)[..., None]
    return np.asarray((dark + (bright - dark) * share) * light[..., None], np.float32)


def _distance(shape: str, x: Plane, y: Plane, radius: float) -> Plane:
    """Signed distance in pixels to the edge of a shape around the origin, negative inside."""
    if shape == "circle":
        return np.asarray(np.hypot(x, y) - radius)
    if shape == "square":
        side, corner = 0.86 * radius, 0.2 * radius
        dx, dy = np.abs(x) - side + corner, np.abs(y) - side + corner
        return np.asarray(np.hypot(np.maximum(dx, 0), np.maximum(dy, 0)) + np.minimum(np.maximum(dx, dy), 0) - corner)
    edges = [x * np.sin(angle) - y * np.cos(angle) for angle in 2 * np.pi / 3 * (np.arange(3) + 0.5)]
    return np.asarray(np.maximum.reduce(edges) - 0.62 * radius)


def _draw(picture: Plane, shape: str, centre: tuple[float, float], radius: float, turn: float, loudness: float) -> None:
    """Draw one shape with a soft shadow, light from the upper left, and a faint glow while it sounds."""
    reach = 2 * radius
    top, bottom = max(0, int(centre[1] - reach)), min(HEIGHT, int(centre[1] + reach) + 1)
    left, right = max(0, int(centre[0] - reach)), min(WIDTH, int(centre[0] + reach) + 1)
    view = picture[top:bottom, left:right]
    y, x = np.mgrid[top:bottom, left:right].astype(np.float32)
    x, y = x - np.float32(centre[0]), y - np.float32(centre[1])
    cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))

    def distance(dx: float, dy: float) -> Plane:
        return _distance(shape, cos * (x - dx) + sin * (y - dy), cos * (y - dy) - sin * (x - dx), radius)

    def blend(share: NDArray[np.floating[Any]], colour: NDArray[np.floating[Any]] | tuple[int, int, int]) -> None:
        view[:] += share[..., None] * (np.asarray(colour, np.float32) - view)

    edge = distance(0, 0)
    blend(0.4 * np.clip(0.5 - distance(5, 9) / 22, 0, 1), (8, 10, 22))
    blend(0.4 * loudness * np.exp(-np.maximum(edge, 0) / 12), (255, 244, 214))
    light = 1.0 - 0.3 * (x + y) / (2 * radius) + 0.1 * np.clip(1 + edge / 14, 0, 1)
    body = np.clip(light[..., None] * np.array(_COLOURS[shape], np.float32), 0, 255)
    # One pixel wide, the ramp of the edge is its antialiasing.
    blend(np.clip(0.5 - edge, 0, 1), body)
