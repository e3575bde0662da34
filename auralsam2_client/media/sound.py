"""Sound of any rate and channel count -> 16 kHz stereo -> the 0.975 s that each frame of a clip hears.

Down-mix  ITU-R BS.775: left = FL + (FC + BL + SL) / sqrt 2, right alike, one back channel at 1/2 on both sides, LFE
          left out; then divided by the larger sum of coefficients, so that samples in [-1, 1] cannot clip. Mono comes
          out doubled.
Resample  soxr, quality HQ, piece by piece: an hour of 5.1 never lies in memory as a whole.
Windows   15600 samples (96 hops of 10 ms under 25 ms windows). At one frame a second they are 15360 samples apart, as
          the VGGish examples of AVSBench are; at any other rate each is centred on its frame.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import soxr
from numpy.typing import NDArray

from auralsam2_client.contract import HOP_SAMPLES, SAMPLE_RATE, WINDOW_SAMPLES
from auralsam2_client.errors import BadInput

# Decoded AAC overshoots 1 a little and is clipped; integers stored as float reach thousands and would become noise.
MAX_PEAK = 16.0
MIN_RATE_HZ, MAX_RATE_HZ = 1_000, 768_000
# Samples that are converted, or read from a file, at a time.
BLOCK_SAMPLES = 1 << 18

_HALF_POWER = 1 / math.sqrt(2)
_SIDES: dict[str, tuple[float, float]] = {
    "FL": (1.0, 0.0),
    "FR": (0.0, 1.0),
    "FC": (_HALF_POWER, _HALF_POWER),
    "LFE": (0.0, 0.0),
    "LFE2": (0.0, 0.0),
    "BC": (0.5, 0.5),
    "DL": (1.0, 0.0),
    "DR": (0.0, 1.0),
    **dict.fromkeys(("BL", "SL", "FLC", "WL", "TFL", "TBL", "TSL"), (_HALF_POWER, 0.0)),
    **dict.fromkeys(("BR", "SR", "FRC", "WR", "TFR", "TBR", "TSR"), (0.0, _HALF_POWER)),
}
# What a bare channel count means in a WAV file: the order of the WAVE format.
_CHANNELS_OF_COUNT: dict[int, tuple[str, ...]] = {
    1: ("FC",),
    2: ("FL", "FR"),
    3: ("FL", "FR", "FC"),
    4: ("FL", "FR", "BL", "BR"),
    5: ("FL", "FR", "FC", "BL", "BR"),
    6: ("FL", "FR", "FC", "LFE", "BL", "BR"),
    7: ("FL", "FR", "FC", "LFE", "BC", "SL", "SR"),
    8: ("FL", "FR", "FC", "LFE", "BL", "BR", "SL", "SR"),
}


def downmix_matrix(layout: int | Sequence[str]) -> NDArray[np.float32]:
    """Look up the coefficients from the channels of a layout to left and right.

    Args:
        layout: a channel count (1 to 8, in the order of the WAVE format) or the channels by name ("FL", "FR", ...).
    Returns: [C, 2] float32; the larger of the two column sums is 1.
    Raises: BadInput when the count or a name is not known, or when nothing but LFE is there.
    """
    if isinstance(layout, int):
        if layout not in _CHANNELS_OF_COUNT:
            raise BadInput(f"The sound has {layout} channels; 1 to 8 are supported. Mix it down to stereo first.")
        layout = _CHANNELS_OF_COUNT[layout]
    unknown = [name for name in layout if name not in _SIDES]
    if unknown:
        raise BadInput(
            f"The sound has a channel {unknown[0]!r}; known are {', '.join(_SIDES)}. Mix it down to stereo first."
        )
    matrix = np.array([_SIDES[name] for name in layout], np.float32).reshape(-1, 2)
    loudest = matrix.sum(axis=0).max(initial=0.0)
    if loudest == 0:
        raise BadInput(f"The sound has only the channels {list(layout)}; at least one other than LFE is needed.")
    return np.asarray(matrix / loudest, np.float32)


class StereoStream:
    """Collects a sound piece by piece as 16 kHz stereo; one sound, one use.

    Args:
        rate: samples a second of the pieces, 1000 to 768000.
        layout: as in `downmix_matrix`.
        name: what messages call the sound.
    Raises: BadInput for a rate or a layout that is not supported.
    """

    def __init__(self, rate: int, layout: int | Sequence[str], name: str = "the sound") -> None:
        if not MIN_RATE_HZ <= rate <= MAX_RATE_HZ:
            raise BadInput(f"{name} has {rate} Hz; supported are {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz. Resample it first.")
        self.rate = rate
        self.num_samples = 0
        self._name = name
        self._matrix = downmix_matrix(layout)
        self._resampler = soxr.ResampleStream(rate, SAMPLE_RATE, 2, dtype="float32", quality="HQ")
        self._pieces: list[NDArray[np.float32]] = []

    def add(self, samples: NDArray[np.float32]) -> None:
        """Append [n, C] float32 in [-1, 1]. Raises BadInput at NaN, Inf or a peak above 16, naming its sample."""
        peak = float(np.abs(samples).max(initial=0.0))
        # A NaN makes the maximum NaN, so that one comparison finds all three.
        if not peak <= MAX_PEAK:
            self._reject(samples)
        for start in range(0, len(samples), BLOCK_SAMPLES):
            block = samples[start : start + BLOCK_SAMPLES]
            self._pieces.append(self._resampler.resample_chunk(np.ascontiguousarray(block @ self._matrix), last=False))
        self.num_samples += len(samples)

    def add_silence(self, num_samples: int) -> None:
        """Append num_samples zeros at the rate of the pieces."""
        for start in range(0, num_samples, BLOCK_SAMPLES):
            self.add(np.zeros((min(BLOCK_SAMPLES, num_samples - start), len(self._matrix)), np.float32))

    def finish(self) -> NDArray[np.float32]:
        """Return all of it, [S, 2] float32 in [-1, 1] at 16 kHz."""
        self._pieces.append(self._resampler.resample_chunk(np.zeros((0, 2), np.float32), last=True))
        sound = np.concatenate(self._pieces)
        self._pieces.clear()
        # The resampling filter and lossy decoders overshoot; the server's contract is [-1, 1].
        return np.clip(sound, -1.0, 1.0, out=sound)

    def _reject(self, samples: NDArray[np.float32]) -> None:
        bad = ~(np.abs(samples) <= MAX_PEAK)
        index, channel = (int(i) for i in np.argwhere(bad)[0])
        value = samples[index, channel]
        at = f"sample {self.num_samples + index} ({(self.num_samples + index) / self.rate:.3f} s), channel {channel}"
        if np.isfinite(value):
            raise BadInput(
                f"{self._name}: {at} is {value:g}; float samples lie in [-1, 1]. Divide by the full scale first."
            )
        raise BadInput(
            f"{self._name}: {at} is {value}; every sample must be a finite number. Replace it, or use --silent."
        )


def to_stereo_16k(samples: NDArray[np.float32], rate: int, layout: int | Sequence[str]) -> NDArray[np.float32]:
    """Mix down to stereo and resample to 16 kHz.

    Args:
        samples: [n, C] float32 in [-1, 1].
        rate: samples a second, 1000 to 768000.
        layout: the channel count C (order of the WAVE format) or the C channels by name, as `av` names them.
    Returns: [S, 2] float32 in [-1, 1], S about n * 16000 / rate.
    Raises: BadInput when samples is empty, not [n, C], or holds NaN, Inf or a peak above 16.
    """
    num_channels = layout if isinstance(layout, int) else len(layout)
    if samples.ndim != 2 or samples.shape[1] != num_channels or len(samples) == 0:
        raise BadInput(f"samples has shape {list(samples.shape)}; must be [n, {num_channels}] with n at least 1.")
    stream = StereoStream(rate, layout)
    stream.add(samples)
    return stream.finish()


@dataclass(frozen=True)
class Windows:
    """What the frames of one clip hear. `num_repeated` of the T windows stand in for sound that is not there."""

    samples: NDArray[np.float32]  # [T, 15600, 2]
    num_repeated: int


def windows(sound: NDArray[np.float32] | None, num_frames: int, fps: float = 1.0, start_s: float = 0.0) -> Windows:
    """Cut the windows of one clip out of the whole sound.

    A long video is cut into consecutive clips by the caller; each call gets the same sound and its own start_s.
    At fps 1, window i starts at sample 16000 start_s + 15360 i (so the hop of 0.96 s restarts in each clip), and one
    not completely inside the sound repeats the last complete one before it in the clip; where the clip has none, the
    last 0.975 s of the sound. At other rates, window i is centred on start_s + i / fps and moved inside the sound
    where it sticks out; it counts as repeated when the sound ends before the frame's time.

    Args:
        sound: [S, 2] float32 at 16 kHz from the video's time 0, or None for silence.
        num_frames: T, at least 1.
        fps: frames a second of the clip.
        start_s: time of the clip's first frame in seconds.
    Returns: `Windows` of [T, 15600, 2] float32.
    Raises: BadInput when sound is not [S, 2], is shorter than one window, or holds NaN or Inf where the clip hears it;
        when num_frames, fps or start_s is out of range.
    """
    cut = cut_windows(sound, num_frames, fps, start_s)
    if sound is not None and not np.isfinite(cut.samples).all():
        index, channel = (int(i) for i in np.argwhere(~np.isfinite(sound))[0])
        raise BadInput(
            f"The sound is {sound[index, channel]} at sample {index} ({index / SAMPLE_RATE:.3f} s), channel {channel}; "
            "every sample must be a finite number. Replace it, or use --silent."
        )
    return cut


def cut_windows(sound: NDArray[np.float32] | None, num_frames: int, fps: float, start_s: float) -> Windows:
    """Cut as `windows` does, of a sound whose samples are known to be finite, as `read_media` gives it."""
    if num_frames < 1 or not (math.isfinite(fps) and fps > 0) or not (math.isfinite(start_s) and start_s >= 0):
        raise BadInput(
            f"num_frames = {num_frames}, fps = {fps}, start_s = {start_s}; must be at least 1, above 0 and at least 0."
        )
    if sound is None:
        return Windows(np.zeros((num_frames, WINDOW_SAMPLES, 2), np.float32), 0)
    if sound.ndim != 2 or sound.shape[1] != 2:
        raise BadInput(f"sound has shape {list(sound.shape)}; must be [S, 2], left and right. See to_stereo_16k.")
    last_start = len(sound) - WINDOW_SAMPLES
    if last_start < 0:
        raise BadInput(
            f"The sound has {len(sound)} samples ({len(sound) / SAMPLE_RATE:.3f} s); one window needs {WINDOW_SAMPLES} "
            f"({WINDOW_SAMPLES / SAMPLE_RATE:.3f} s). Use a longer sound, or --silent to go without."
        )
    frame_index = np.arange(num_frames)
    if fps == 1:
        starts = round(start_s * SAMPLE_RATE) + HOP_SAMPLES * frame_index
        missing = starts > last_start
        complete = starts[~missing]
        starts = np.where(missing, complete[-1] if len(complete) else last_start, starts)
    else:
        centres = np.rint((start_s + frame_index / fps) * SAMPLE_RATE).astype(np.int64)
        missing = centres >= len(sound)
        starts = np.clip(centres - WINDOW_SAMPLES // 2, 0, last_start)
    samples = np.stack([sound[start : start + WINDOW_SAMPLES] for start in starts]).astype(np.float32, copy=False)
    return Windows(samples, int(missing.sum()))
