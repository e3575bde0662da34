"""Sound out of a file: plain samples and FLAC by soundfile, the track of a video or of any other file by PyAV."""

import math
from collections.abc import Generator, Iterator
from pathlib import Path

import av
import numpy as np
import soundfile
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from numpy.typing import NDArray

from auralsam2_client.contract import SAMPLE_RATE, WINDOW_SAMPLES
from auralsam2_client.errors import BadInput
from auralsam2_client.media.containers.packets import PacketReader, open_container, reason
from auralsam2_client.media.containers.tracks import sound_track
from auralsam2_client.media.notes import Notes, count_of
from auralsam2_client.media.sound import BLOCK_SAMPLES, MAX_RATE_HZ, MIN_RATE_HZ, StereoStream, join_pieces
from auralsam2_client.media.sound_frames import SoundFrames, samples_of
from auralsam2_client.media.sound_parts import SoundParts

# A track may end this much before its declared duration, which is rounded and often counts the codec's padding.
TRUNCATION_SLACK_S = 0.5
# Of lossy files soundfile leaves out what is damaged, so that the rest comes too early, and reads the first of joined
# ones alone.
_PLAIN = ("WAV", "WAVEX", "RF64", "W64", "FLAC", "AIFF", "AU", "CAF")
# What programs write for a length that they do not know yet.
_UNKNOWN_SIZE = 0xFFFF_FF00
# Some count their header twice, or a byte of padding that is not there.
_CARELESS_BYTES = 64
Pieces = Generator[NDArray[np.float32], None, None]
"""Consecutive pieces [n, 2] of a sound, a few seconds each, at 16 kHz."""
_PIECE_S = 4


def read_sound_file(
    path: Path, until_s: float, *, track: int | None = None, notes: Notes | None = None
) -> NDArray[np.float32]:
    """Read the first until_s seconds of a file with sound as [S, 2] float32 at 16 kHz; as `sound_file_pieces`."""
    return join_pieces(list(sound_file_pieces(path, until_s, track=track, notes=notes)))


def sound_file_pieces(path: Path, until_s: float, *, track: int | None = None, notes: Notes | None = None) -> Pieces:
    """Read the first until_s seconds of a file with sound, piece by piece.

    Args:
        path: any file with a sound track; time 0 of a video is its first picture.
        track: the number of its sound track from 1; None for the one that players take.
        notes: takes a line for each kind of damage, before the last piece.
    Raises: BadInput when the file is missing, has no sound, holds no samples, or holds NaN or Inf.
    """
    if not path.is_file():
        what = "is no file" if path.exists() else "does not exist"
        raise BadInput(f"Sound file {path} {what}. Check the name, or use --silent to go without sound.")
    notes = notes or Notes(path.name)
    if track is None:
        try:
            with soundfile.SoundFile(str(path)) as file:
                if file.format in _PLAIN:
                    yield from _read_plain(file, path, until_s, notes)
                    return
        except soundfile.SoundFileError:
            pass
        except OSError as error:
            raise BadInput(f"{path} cannot be read: {reason(error)}. Check its permissions.") from error
    yield from _read_other(path, until_s, track, notes)


def sound_file_end_s(path: Path, until_s: float) -> float:
    """Return how long a file with sound is, in seconds, read for until_s at most. Raises: as `read_sound_file`."""
    return sum(map(len, sound_file_pieces(path, until_s))) / SAMPLE_RATE


def _read_plain(file: soundfile.SoundFile, path: Path, until_s: float, notes: Notes) -> Pieces:
    stream = StereoStream(file.samplerate, file.channels, name=path.name)
    remaining = math.ceil(until_s * file.samplerate)
    while remaining > 0:
        block = file.read(min(BLOCK_SAMPLES, remaining), dtype="float32", always_2d=True)
        if len(block) == 0:
            break
        stream.add(block)
        remaining -= len(block)
        yield stream.take()
    if stream.num_samples == 0:
        raise BadInput(
            f"{path} holds 0 samples of sound; at least {WINDOW_SAMPLES} at 16 kHz are needed. Use --silent for none."
        )
    if remaining > 0 and (missing := _missing_bytes(path)):
        notes.add_damage(
            f"{path.name} ends at {stream.num_samples / stream.rate:.2f} s, {missing} bytes before its header says: it "
            "broke off, or its header is wrong"
        )
    yield stream.finish()


def _missing_bytes(path: Path) -> int:
    """Count the bytes that a WAV file declares and does not hold; 0 for one that was written to a pipe."""
    with path.open("rb") as file:
        mark, size = file.read(4), int.from_bytes(file.read(4), "little")
    if mark != b"RIFF" or size >= _UNKNOWN_SIZE:
        return 0
    missing = size + 8 - path.stat().st_size
    return missing if missing > _CARELESS_BYTES else 0


def _read_other(path: Path, until_s: float, number: int | None, notes: Notes) -> Pieces:
    try:
        container = open_container(path, sound_alone=True)
    except BadInput as error:
        raise BadInput(
            f"{path} cannot be read as sound: it is no file with sound, or damaged. Convert it to a WAV file, or use "
            "--silent."
        ) from error
    with container:
        video = container.streams.best("video")
        origin_s = None
        if video is not None and video.start_time is not None and video.time_base is not None:
            origin_s = float(video.start_time * video.time_base)
        track = sound_track(container, str(path), number, video)
        yield from track_pieces(container, track, str(path), origin_s, until_s, notes)


def track_pieces(
    container: InputContainer,
    track: AudioStream,
    name: str,
    origin_s: float | None,
    until_s: float,
    notes: Notes,
) -> Pieces:
    """Read a sound track of an opened file for until_s seconds, piece by piece.

    What cannot be decoded is silence of its length. Each piece is mixed from its own layout and rate.

    Args:
        container: opened by `av`, not read yet.
        track: one of it, with a decoder.
        name: what messages call the file.
        origin_s: where the sound starts, on the container's clock: silence is put before a track that starts later,
            and what lies before is left out. None: with the track's first sample.
        until_s: seconds from origin_s to read; the rest of the track is not decoded.
        notes: takes a line for each kind of damage, before the last piece.
    Raises: BadInput when no sample can be decoded, or a track of floats has another scale than [-1, 1].
    """
    packets = PacketReader(container)
    decoder = SoundFrames(track)
    parts = SoundParts(name, until_s)
    # Plain floats may be in another scale; what a codec makes of damage may be anything.
    plain = track.codec_context.name.startswith("pcm_")
    damages: list[tuple[float, str]] = []
    num_flawed = 0
    lost = False
    next_s = float(_PIECE_S)
    for packet in _packets_of(track, packets):
        try:
            decoded = decoder.decode(packet)
        except av.FFmpegError as error:
            if packet is not None:
                damages.append((parts.read_s, reason(error)))
                lost = True
            continue
        for frame, channels in decoded:
            num_flawed += frame.is_corrupt
            if not parts.is_empty and not MIN_RATE_HZ <= frame.sample_rate <= MAX_RATE_HZ:
                damages.append((parts.read_s, f"it says {frame.sample_rate} Hz"))
                lost = True
                continue
            time_s = None
            tick_s = frame.time_base or track.time_base
            if frame.pts is not None and tick_s is not None:
                time_s = float(frame.pts * tick_s)
                origin_s = time_s if origin_s is None else origin_s
                time_s -= origin_s
            parts.add(samples_of(frame), frame.sample_rate, channels, time_s, behind_damage=lost, strict_peak=plain)
            lost = False
        if not parts.is_empty and parts.read_s >= until_s:
            break
        if parts.read_s >= next_s:
            next_s = parts.read_s + _PIECE_S
            yield parts.take()
    if parts.is_empty:
        why = f" that can be decoded ({damages[0][1]})" if damages else ""
        raise BadInput(f"{name} has a sound track of 0 samples{why}. Use --silent to treat it as silence.")
    if damages:
        notes.add_damage(
            f"{count_of(len(damages), 'packet')} of the sound cannot be decoded, the first at {damages[0][0]:.2f} s; "
            "silence stands in"
        )
    num_marked = max(num_flawed, packets.num_marked.get(track.index, 0)) - len(packets.clock.joints_s)
    if num_marked > len(damages):
        notes.add_damage(f"{count_of(num_marked, 'packet')} of the sound came damaged; what is left of each is heard")
    if parts.num_bad_samples:
        notes.add_damage(f"{count_of(parts.num_bad_samples, 'sample')} of the sound is no number; silence stands in")
    if parts.gaps_s > TRUNCATION_SLACK_S:
        notes.add(f"the sound has {count_of(parts.num_gaps, 'gap')}, {parts.gaps_s:.2f} s in all; silence stands in")
    missing_s = packets.missing_s(track) if parts.read_s < until_s else 0.0
    if min(missing_s, until_s - parts.read_s) > TRUNCATION_SLACK_S:
        notes.add_damage(
            f"its sound can be decoded only up to {parts.read_s:.2f} s of its declared {parts.read_s + missing_s:.2f} "
            "s: it broke off, or its header is wrong"
        )
    yield parts.finish()


def _packets_of(track: AudioStream, packets: PacketReader) -> "Iterator[Packet[Stream] | None]":
    """The packets of one track, then None, with which a decoder gives what it holds back."""
    for packet, stream in packets.packets():
        if stream.index == track.index and packet.size:
            yield packet
    yield None
