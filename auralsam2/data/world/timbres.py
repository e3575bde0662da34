"""How each shape of the procedural world sounds: one timbre a class, with pitch, loudness and onset free.

Times in seconds, frequencies in Hz; waves are mono float32 at 16 kHz with a root mean square of 1.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from auralsam2.data.world.shapes import Shape
from auralsam2.network.log_mel import SAMPLE_RATE

Wave = NDArray[np.float32]
# Pitch factors of the held-out split lie on either side of those heard in training.
SEEN_PITCHES = ((0.78, 1.28),)
UNSEEN_PITCHES = ((0.64, 0.74), (1.35, 1.55))
_FADE_S = 0.012


def draw_pitch(rng: np.random.Generator, ranges: tuple[tuple[float, float], ...]) -> float:
    """Draw a pitch factor, log-uniform within one of the ranges."""
    low, high = ranges[int(rng.integers(len(ranges)))]
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _partials(time_s: Wave, hz: float, ratios: list[float], levels: list[float]) -> Wave:
    wave = np.zeros_like(time_s)
    for ratio, level in zip(ratios, levels, strict=True):
        if hz * ratio < SAMPLE_RATE / 2:
            wave += np.float32(level) * np.sin(np.float32(2 * np.pi * hz * ratio) * time_s)
    return wave


def _since_stroke(time_s: Wave, rate: float) -> Wave:
    """Seconds since the last of `rate` strokes a second; the first falls on time zero."""
    return np.asarray((time_s * np.float32(rate) % 1) / np.float32(rate), np.float32)


def _bell(time_s: Wave, pitch: float, rng: np.random.Generator) -> Wave:
    """Struck: few, inharmonic partials that ring out, the high ones first."""
    since = _since_stroke(time_s, rng.uniform(1.8, 2.6))
    wave = np.zeros_like(time_s)
    for ratio, level, decay in ((1.0, 1.0, 4.0), (2.76, 0.7, 6.0), (5.4, 0.5, 9.0), (8.93, 0.3, 14.0)):
        hz = 480 * pitch * ratio
        if hz < SAMPLE_RATE / 2:
            wave += np.float32(level) * np.exp(-np.float32(decay) * since) * np.sin(np.float32(2 * np.pi * hz) * since)
    return wave


def _wind(time_s: Wave, pitch: float, rng: np.random.Generator) -> Wave:
    """Noisy: a wide band around 1.1 kHz that slowly swells."""
    spectrum = np.fft.rfft(rng.standard_normal(len(time_s)).astype(np.float32))
    hz = np.fft.rfftfreq(len(time_s), 1 / SAMPLE_RATE)
    spectrum *= np.exp(-0.5 * (np.log2(np.maximum(hz, 1) / (1100 * pitch)) / 0.6) ** 2)
    swell = 1 + 0.4 * np.sin(2 * np.pi * rng.uniform(1, 2) * time_s + rng.uniform(0, 6))
    return np.asarray(np.fft.irfft(spectrum, len(time_s)) * swell, np.float32)


def _engine(time_s: Wave, pitch: float, rng: np.random.Generator) -> Wave:
    """Pulsed: a low, rich buzz, about eleven beats a second."""
    wave = _partials(time_s, 95 * pitch, [float(k) for k in range(1, 13)], [k**-0.6 for k in range(1, 13)])
    beat = 0.5 + 0.5 * np.sin(2 * np.pi * rng.uniform(10, 13) * time_s)
    return np.asarray(wave * (0.15 + 0.85 * beat), np.float32)


def _string(time_s: Wave, pitch: float, rng: np.random.Generator) -> Wave:
    """Plucked: ten harmonics, the high ones dying first, three or four strokes a second."""
    since = _since_stroke(time_s, rng.uniform(3.0, 4.2))
    wave = np.zeros_like(time_s)
    for k in range(1, 11):
        wave += np.exp(-np.float32(2.5 + 1.2 * k) * since) / k * np.sin(np.float32(2 * np.pi * 210 * pitch * k) * since)
    return wave


def _bird(time_s: Wave, pitch: float, rng: np.random.Generator) -> Wave:
    """Chirped: rising whistles, five to seven a second."""
    rate = rng.uniform(5, 7)
    since = _since_stroke(time_s, rate)
    low, high = 2500 * pitch, 4300 * pitch
    slope = (high - low) * rate
    gate = np.clip(np.sin(np.pi * np.clip(since * rate / 0.7, 0, 1)), 0, 1)
    return np.asarray(gate * np.sin(2 * np.pi * (low * since + slope / 2 * since**2)), np.float32)


def _flute(time_s: Wave, pitch: float, rng: np.random.Generator) -> Wave:
    """Harmonic: a steady tone with vibrato and three harmonics."""
    rate = rng.uniform(4.5, 6.5)
    bent = time_s + np.float32(0.012 / (2 * np.pi * rate)) * np.sin(np.float32(2 * np.pi * rate) * time_s)
    return _partials(np.asarray(bent, np.float32), 680 * pitch, [1.0, 2.0, 3.0], [1.0, 0.4, 0.2])


TIMBRES: dict[Shape, Callable[[Wave, float, np.random.Generator], Wave]] = {
    "disc": _bell,
    "ring": _wind,
    "square": _engine,
    "cross": _string,
    "triangle": _bird,
    "star": _flute,
}


def note(shape: Shape, pitch: float, duration_s: float, rng: np.random.Generator) -> Wave:
    """Play one note of the class.

    Args:
        shape: whose timbre.
        pitch: factor on the class's own pitch.
        duration_s: at least 0.05 s.
        rng: for what differs from note to note.
    Returns: [duration_s * 16000] float32, root mean square 1, faded in and out within 12 ms.
    """
    time_s = np.asarray(np.arange(round(duration_s * SAMPLE_RATE), dtype=np.float32) / SAMPLE_RATE, np.float32)
    wave = TIMBRES[shape](time_s, pitch, rng)
    edge = np.minimum(time_s, time_s[-1] - time_s) / _FADE_S
    wave = wave * np.clip(edge, 0, 1)
    return np.asarray(wave / max(float(np.sqrt(np.mean(wave**2))), 1e-6), np.float32)
