"""Sound out of a file: a WAV, FLAC or OGG by soundfile, the track of a video by PyAV, piece by piece."""

import math
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile
from av.audio.frame import AudioFrame
from av.container import InputContainer
from numpy.typing import NDArray

from auralsam2_client.contract import WINDOW_SAMPLES
from auralsam2_client.errors import BadInput
from auralsam2_client.media.sound import BLOCK_SAMPLES, StereoStream

# A track may end this much before its declared duration, which is rounded and often counts the codec's padding.
TRUNCATION_SLACK_S = 0.5
# Timestamps are rounded to the container's clock; only a larger gap between two pieces is a real one.
SOUND_GAP_S = 0.05


def read_sound_file(path: Path, until_s: float) -> NDArray[np.float32]:
    """Read the first until_s seconds of a WAV, FLAC or OGG file as [S, 2] float32 at 16 kHz.

    Raises: BadInput when the file is missing, is no sound file, holds no samples, or holds NaN or Inf.
    """
    if not path.is_file():
        raise BadInput(f"Sound file {path} does not exist. Check the name, or use --silent to go without sound.")
    try:
        with soundfile.SoundFile(str(path)) as file:
            stream = StereoStream(file.samplerate, file.channels, name=path.name)
            remaining = math.ceil(until_s * file.samplerate)
            while remaining > 0:
                block = file.read(min(BLOCK_SAMPLES, remaining), dtype="float32", always_2d=True)
                if len(block) == 0:
                    break
                stream.add(block)
                remaining -= len(block)
    except (soundfile.SoundFileError, OSError) as error:
        raise BadInput(
            f"{path} cannot be read as sound: {error}. Convert it to a WAV file, or use --silent."
        ) from error
    if stream.num_samples == 0:
        raise BadInput(
            f"{path} holds 0 samples of sound; at least {WINDOW_SAMPLES} at 16 kHz are needed. Use --silent for none."
        )
    return stream.finish()


def read_track(container: InputContainer, name: str, origin_s: float, until_s: float) -> NDArray[np.float32]:
    """Read the first sound track of an opened file for until_s seconds as [S, 2] float32 at 16 kHz.

    Args:
        container: opened by `av`, not read yet.
        name: what messages call the file.
        origin_s: where the sound starts, on the container's clock: silence is put before a track that starts later,
            and what lies before is left out.
        until_s: seconds from origin_s to read; the rest of the track is not decoded.
    Raises: BadInput when there is no track, no decoder for it, no sample in it, when it changes its rate or layout, or
        ends long before its declared duration.
    """
    if not container.streams.audio:
        raise BadInput(f"{name} has no sound track; one is needed. Use --silent to treat it as silence.")
    track = container.streams.audio[0]
    if track.codec_context is None:
        raise BadInput(f"{name}: there is no decoder for its sound here. Convert it, or use --silent.")
    stream: StereoStream | None = None
    first: tuple[int, tuple[str, ...]] | None = None
    damage: av.FFmpegError | None = None
    try:
        for frame in container.decode(track):
            found = (frame.sample_rate, tuple(channel.name for channel in frame.layout.channels))
            if stream is None:
                first = found
                # A track may state how many channels it has and not which.
                stream = StereoStream(found[0], len(found[1]) if "NONE" in found[1] else found[1], name)
            elif found != first:
                raise BadInput(f"{name}: its sound changes from {first} to {found}. Convert it, or use --silent.")
            _add_frame(stream, frame, origin_s, until_s)
            if stream.num_samples >= until_s * stream.rate:
                return stream.finish()
    except av.FFmpegError as error:
        damage = error
    if stream is None:
        why = "" if damage is None else f" that can be decoded ({damage.strerror})"
        raise BadInput(f"{name} has a sound track of 0 samples{why}. Use --silent to treat it as silence.")
    read_s, end_s = stream.num_samples / stream.rate, None
    if track.duration is not None and track.time_base is not None:
        end_s = float((track.duration + (track.start_time or 0)) * track.time_base) - origin_s
    if (damage and end_s is None) or (end_s is not None and min(end_s, until_s) - read_s > TRUNCATION_SLACK_S):
        declared = "" if end_s is None else f" of its declared {end_s:.2f} s"
        raise BadInput(
            f"{name}: its sound can be decoded only up to {read_s:.2f} s{declared}; the file is truncated or damaged. "
            "Copy it again, or use --silent."
        )
    return stream.finish()


def _add_frame(stream: StereoStream, frame: AudioFrame, origin_s: float, until_s: float) -> None:
    samples = _to_float(frame)
    if frame.pts is not None and frame.time_base is not None:
        gap = round((float(frame.pts * frame.time_base) - origin_s) * stream.rate) - stream.num_samples
        at_start = stream.num_samples == 0
        if at_start and gap < 0:
            samples = samples[-gap:]
        elif gap > (0 if at_start else SOUND_GAP_S * stream.rate):
            stream.add_silence(min(gap, math.ceil(until_s * stream.rate) - stream.num_samples))
    stream.add(samples)


def _to_float(frame: AudioFrame) -> NDArray[np.float32]:
    """Samples of a decoded frame as [n, C] float32, full scale 1."""
    raw: NDArray[Any] = frame.to_ndarray()
    raw = raw.T if frame.format.is_planar else raw.reshape(-1, len(frame.layout.channels))
    if raw.dtype.kind == "u":
        return np.asarray((raw.astype(np.float32) - 128) / 128, np.float32)
    if raw.dtype.kind == "i":
        return (raw / 2.0 ** (8 * raw.dtype.itemsize - 1)).astype(np.float32)
    return raw.astype(np.float32)
