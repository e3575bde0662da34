"""The 0.975 s that each frame of a clip hears, for the client and for the data sets of training and evaluation alike.

A window is 15600 samples: 96 hops of 10 ms under 25 ms windows. At one frame a second they are 15360 samples apart, as
the VGGish examples of AVSBench are; at any other rate each is centred on its frame.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auralsam2_client.contract import HOP_SAMPLES, SAMPLE_RATE, WINDOW_SAMPLES
from auralsam2_client.errors import BadInput

# Decoders, resampling and mixes of many channels pass full scale, 1, by some decibels: by less than these 12. Sound in
# another scale, as of 16-bit integers, passes it by far.
MAX_OVERSHOOT = 4.0


def num_windows(sound: NDArray[np.float32]) -> int:
    """Count the whole windows, one hop apart, of sound [S, 2] at 16 kHz; at least one, which silence fills up."""
    return max(1, (len(sound) - WINDOW_SAMPLES) // HOP_SAMPLES + 1)


def clip_windows(sound: NDArray[np.float32], num_frames: int) -> NDArray[np.float32]:
    """Cut the windows of a data set's clip, one frame a second: window i starts at sample 15360 i, as in AVSBench.

    Args:
        sound: [S, 2] float32 at 16 kHz, finite; shorter than one window is filled up with silence.
        num_frames: T, at least 1; a window that is not there repeats the last.
    Returns: [T, 15600, 2] float32.
    """
    if len(sound) < WINDOW_SAMPLES:
        sound = np.concatenate([sound, np.zeros((WINDOW_SAMPLES - len(sound), 2), np.float32)])
    return cut_windows(sound, num_frames, fps=1.0, start_s=0.0).samples


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
    Returns: `Windows` of [T, 15600, 2] float32 in [-1, 1], see `saturate`.
    Raises: BadInput when sound is not [S, 2], is shorter than one window, or holds NaN, Inf or another scale where the
        clip hears it; when num_frames, fps or start_s is out of range.
    """
    cut = cut_windows(sound, num_frames, fps, start_s)
    if sound is not None and not np.isfinite(cut.samples).all():
        index, channel = (int(i) for i in np.argwhere(~np.isfinite(sound))[0])
        raise BadInput(
            f"The sound is {sound[index, channel]} at sample {index} ({index / SAMPLE_RATE:.3f} s), channel {channel}; "
            "every sample must be a finite number. Replace it, or use --silent."
        )
    return Windows(saturate(cut.samples), cut.num_repeated)


def saturate(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Bring finite samples to [-1, 1]: those beyond become 1 or -1, as in a player, or a 16-bit WAV of the same sound.

    Raises: BadInput where one is beyond 4, which is another scale.
    """
    largest = max(float(samples.max()), -float(samples.min()))
    if largest > MAX_OVERSHOOT:
        raise BadInput(
            f"The sound has a sample of {largest:g}; full scale is [-1, 1], and decoders pass it up to"
            f" {MAX_OVERSHOOT:g}. Divide 16-bit integers by 32768."
        )
    return samples if largest <= 1 else np.clip(samples, np.float32(-1), np.float32(1))


def cut_windows(
    sound: NDArray[np.float32] | None, num_frames: int, fps: float, start_s: float, *, num_before: int = 0
) -> Windows:
    """Cut as `windows` does, of a sound whose samples are known to be finite, as `read_media` gives it.

    Args:
        num_before: samples of the sound before the first that is given, where it is given from there on alone; what
            the clip hears is among what is given.
    """
    if num_frames < 1 or not (math.isfinite(fps) and fps > 0) or not (math.isfinite(start_s) and start_s >= 0):
        raise BadInput(
            f"num_frames = {num_frames}, fps = {fps}, start_s = {start_s}; must be at least 1, above 0 and at least 0."
        )
    if sound is None:
        return Windows(np.zeros((num_frames, WINDOW_SAMPLES, 2), np.float32), 0)
    if sound.ndim != 2 or sound.shape[1] != 2:
        raise BadInput(f"sound has shape {list(sound.shape)}; must be [S, 2], left and right. See to_stereo_16k.")
    num_samples = num_before + len(sound)
    last_start = num_samples - WINDOW_SAMPLES
    if last_start < 0:
        raise BadInput(
            f"The sound has {num_samples} samples ({num_samples / SAMPLE_RATE:.3f} s); one window needs"
            f" {WINDOW_SAMPLES} ({WINDOW_SAMPLES / SAMPLE_RATE:.3f} s). Use a longer sound, or --silent to go without."
        )
    frame_index = np.arange(num_frames)
    if fps == 1:
        starts = round(start_s * SAMPLE_RATE) + HOP_SAMPLES * frame_index
        missing = starts > last_start
        complete = starts[~missing]
        starts = np.where(missing, complete[-1] if len(complete) else last_start, starts)
    else:
        centres = np.rint((start_s + frame_index / fps) * SAMPLE_RATE).astype(np.int64)
        missing = centres >= num_samples
        starts = np.clip(centres - WINDOW_SAMPLES // 2, 0, last_start)
    begins = starts - num_before
    samples = np.stack([sound[begin : begin + WINDOW_SAMPLES] for begin in begins]).astype(np.float32, copy=False)
    return Windows(samples, int(missing.sum()))
