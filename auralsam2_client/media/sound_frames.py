"""Samples out of decoded sound, past two faults of PyAV that end the process.

Planes   `AudioFrame.planes` looks for the end of a list of pointers that has none: with 8 planar channels it reads
         behind the list, with more behind its memory. Each plane is asked for by its number instead.
Layouts  An `AudioLayout` of a custom order (a QuickTime layout tag, an MXF label) shares its map with the decoder and
         frees it too. The decoder gets a plain layout before it opens; one that comes up later is never freed.
"""

import ctypes
from itertools import pairwise
from typing import Any

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.layout import AudioLayout
from av.audio.plane import AudioPlane
from av.audio.stream import AudioStream
from av.packet import Packet
from av.stream import Stream
from numpy.typing import NDArray

from auralsam2_client.media.sound import SIDES, channels_of_count

_DTYPES = {"u8": "u1", "s16": "i2", "s32": "i4", "s64": "i8", "flt": "f4", "dbl": "f8"}
# FFmpeg's order of channels; a layout that keeps to it needs no map of its own.
_NATIVE_ORDER = (
    "FL FR FC LFE BL BR FLC FRC BC SL SR TC TFL TFC TFR TBL TBC TBR DL DR WL WR SDL SDR LFE2 TSL TSR BFC BFL BFR SSL "
    "SSR TTL TTR BIL BIR"
)
_RANK = {name: rank for rank, name in enumerate(_NATIVE_ORDER.split())}


class SoundFrames:
    """Decodes the packets of one sound track into samples and the names of their channels.

    Args:
        track: not decoded yet.
    """

    def __init__(self, track: AudioStream) -> None:
        self._context = track.codec_context
        # The container may name channels in an order of its own; decoders of plain samples keep to it.
        self._names: tuple[str, ...] | None = None
        layout = self._context.layout
        names = _names_of(layout)
        if _is_custom(names):
            del layout
            self._context.layout = AudioLayout(f"{len(names)} channels")
            self._names = names

    def decode(self, packet: "Packet[Stream] | None") -> list[tuple[AudioFrame, tuple[str, ...]]]:
        """Decode one packet, or with None what the decoder holds back, into frames and their channels.

        The channels are named as `downmix_matrix` knows them. What has no side is left out beside others that have
        one. Of Ambisonics the first channel, which is sound from all sides, is in the middle. Where no channel has a
        side, all are in the middle.

        Raises: av.FFmpegError.
        """
        decoded = []
        for frame in self._context.decode(packet):
            if isinstance(frame, AudioFrame):
                names = _names_of(frame.layout)
                if _is_custom(names):
                    keep_layout(frame)
                decoded.append((frame, self._placed(names)))
        return decoded

    def _placed(self, names: tuple[str, ...]) -> tuple[str, ...]:
        if self._names is not None and len(self._names) == len(names) and not any(name in SIDES for name in names):
            names = self._names
        if all(name == "NONE" for name in names) and (known := channels_of_count(len(names))):
            return known
        placed = tuple("FC" if name == "AMBI0" else name if name in SIDES else "LFE" for name in names)
        return placed if any(any(SIDES[name]) for name in placed) else ("FC",) * len(names)


def keep_layout(frame: AudioFrame) -> None:
    """Keep a frame's layout for good, since it would free what the frame frees too; some 100 bytes each."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(frame.layout))


def samples_of(frame: AudioFrame) -> NDArray[np.float32]:
    """Return the samples of a decoded frame as [n, C] float32, full scale 1."""
    name = frame.format.name.removesuffix("p")
    dtype, channels = np.dtype(_DTYPES[name]), frame.layout.nb_channels
    raw: NDArray[Any]
    if frame.format.is_planar:
        planes = [memoryview(AudioPlane(frame, index)) for index in range(channels)]
        raw = np.stack([np.frombuffer(plane, dtype, frame.samples) for plane in planes], axis=1)
    else:
        plane = memoryview(AudioPlane(frame, 0))
        raw = np.frombuffer(plane, dtype, frame.samples * channels).reshape(-1, channels)
    if dtype.kind == "u":
        return np.asarray((raw.astype(np.float32) - 128) / 128, np.float32)
    if dtype.kind == "i":
        return (raw / 2.0 ** (8 * dtype.itemsize - 1)).astype(np.float32)
    return raw.astype(np.float32)


def _names_of(layout: AudioLayout) -> tuple[str, ...]:
    return tuple(channel.name for channel in layout.channels)


def _is_custom(names: tuple[str, ...]) -> bool:
    """Tell whether a layout of these channels has a map: names that are not of the native order, or not in it."""
    if all(name == "NONE" or name.startswith("AMBI") for name in names):
        return False
    ranks = [_RANK.get(name, -1) for name in names if not name.startswith("AMBI")]
    return -1 in ranks or any(one >= other for one, other in pairwise(ranks))
