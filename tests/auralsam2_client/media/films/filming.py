"""Clips written, copied and broken: films that tell their pictures and seconds, in any container and codec."""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.plane import AudioPlane
from av.audio.stream import AudioStream
from av.container import OutputContainer

from tests.auralsam2_client.media.films.telling import RATE, Picture, Sound, picture, pitches

X264 = {"preset": "ultrafast", "crf": "16", "x264-params": "scenecut=0:bframes=0"}


@dataclass(frozen=True)
class Recipe:
    """How a clip is encoded."""

    video: str = "libx264"
    audio: str = "aac"
    pixel_format: str = "yuv420p"
    sample_format: str = "fltp"
    gop: int = 25
    video_options: dict[str, str] | None = None
    container: str | None = None
    container_options: dict[str, str] = field(default_factory=dict)
    bit_rate: int | None = None
    aspect: Fraction | None = None


USUAL = Recipe()
# Cheaper by far to encode than the films of phones, with the same structure of key frames.
MPEG2 = Recipe(
    video="mpeg2video", audio="mp2", sample_format="s16p", video_options={}, bit_rate=2_000_000, container="mpegts"
)


def write(
    path: Path,
    pictures: Iterable[Picture],
    sound: Sound | None,
    recipe: Recipe = USUAL,
    *,
    fps: int | Fraction = 25,
    times_s: Sequence[float] | None = None,
    layout: str = "stereo",
    rate: int = RATE,
) -> Path:
    """Write pictures, one after the other or at times_s, and sound as the recipe says."""
    with av.open(str(path), "w", format=recipe.container, options=recipe.container_options) as output:
        video: Any = output.add_stream(recipe.video, rate=fps)
        video.pix_fmt = recipe.pixel_format
        context = video.codec_context
        context.gop_size = recipe.gop
        tick = Fraction(1, 1000) if times_s else 1 / Fraction(fps)
        context.time_base = tick
        if recipe.aspect is not None:
            context.sample_aspect_ratio = recipe.aspect
        if recipe.bit_rate:
            video.bit_rate = recipe.bit_rate
        video.options = dict(X264 if recipe.video_options is None else recipe.video_options)
        track: Any = None if sound is None else output.add_stream(recipe.audio, rate=rate, layout=layout)
        fed = 0
        for index, shown in enumerate(pictures):
            if index == 0:
                video.height, video.width = shown.shape[:2]
            frame = av.VideoFrame.from_ndarray(shown, format="rgb24").reformat(format=recipe.pixel_format)
            frame.pts, frame.time_base = round(times_s[index] * 1000) if times_s else index, tick
            output.mux(video.encode(frame))
            if sound is not None:
                upto_s = times_s[index] if times_s else (index + 1) / fps
                fed = feed(output, track, sound, fed, int(upto_s * rate) // 1024 * 1024, layout, rate, recipe)
        output.mux(video.encode(None))
        if sound is not None:
            feed(output, track, sound, fed, len(sound), layout, rate, recipe)
            output.mux(track.encode(None))
    return path


def feed(
    output: OutputContainer,
    track: AudioStream,
    sound: Sound,
    begin: int,
    end: int,
    layout: str,
    rate: int,
    recipe: Recipe = USUAL,
) -> int:
    """Encode sound[begin:end] in blocks; return where to go on."""
    while begin < min(end, len(sound)):
        block = sound[begin : min(begin + 1024, end)]
        frame = av.AudioFrame(format=recipe.sample_format, layout=layout, samples=len(block))
        planar, kind = recipe.sample_format.endswith("p"), recipe.sample_format.removesuffix("p")
        scaled = block if kind == "flt" else np.round(block * (2.0 ** (15 if kind == "s16" else 31) - 129))
        values = scaled.astype({"flt": np.float32, "s16": np.int16, "s32": np.int32}[kind])
        for index, plane in enumerate([*values.T] if planar else [values.reshape(-1)]):
            target = AudioPlane(frame, index)
            raw = np.ascontiguousarray(plane).tobytes()
            target.update(raw + bytes(target.buffer_size - len(raw)))
        frame.pts, frame.time_base, frame.sample_rate = begin, Fraction(1, rate), rate
        output.mux(track.encode(frame))
        begin += len(block)
    return begin


def film(path: Path, length_s: float, recipe: Recipe = USUAL, *, first: int = 0, silent: bool = False) -> Path:
    """25 pictures a second from number `first` on, and sound whose pitches go on from there."""
    shown = (picture(first + index) for index in range(round(25 * length_s)))
    return write(path, shown, None if silent else pitches(length_s, first / 25), recipe)


def hours(path: Path, num_pictures: int, recipe: Recipe) -> Path:
    """A long video at one picture a second: one encoded picture, again and again."""
    with av.open(str(path), "w") as output:
        video: Any = output.add_stream(recipe.video, rate=1)
        video.height, video.width = 48, 80
        video.pix_fmt = recipe.pixel_format
        frame = av.VideoFrame.from_ndarray(picture(3), format="rgb24").reformat(format=recipe.pixel_format)
        frame.pts = 0
        content = bytes((video.encode(frame) + video.encode(None))[0])
        for index in range(num_pictures):
            packet = av.Packet(content)
            packet.pts = packet.dts = index
            packet.duration, packet.time_base, packet.stream, packet.is_keyframe = 1, Fraction(1), video, True
            output.mux(packet)
    return path


def write_sound(path: Path, sound: Sound, codec: str, container: str, sample_format: str, **options: Any) -> Path:
    """A file of sound alone."""
    layout, rate = options.get("layout", "stereo"), options.get("rate", RATE)
    with av.open(str(path), "w", format=container) as output:
        track: Any = output.add_stream(codec, rate=rate, layout=layout)
        if "bit_rate" in options:
            track.bit_rate = options["bit_rate"]
        feed(output, track, sound, 0, len(sound), layout, rate, Recipe(sample_format=sample_format))
        output.mux(track.encode(None))
    return path


def remux(
    path: Path,
    sources: Sequence[tuple[Path, str]],
    *,
    defaults: Sequence[bool] | None = None,
    options: dict[str, str] | None = None,
    shift_s: float = 0.0,
) -> Path:
    """Copy tracks, (file, "video" | "audio" | "subtitles") each, into one file, in the order of their times."""
    with ExitStack() as stack:
        output = stack.enter_context(av.open(str(path), "w", options=options or {}))
        packets: list[tuple[float, int, Any, Any]] = []
        for number, (source, kind) in enumerate(sources):
            opened = stack.enter_context(av.open(str(source)))
            track = getattr(opened.streams, kind)[0]
            copy = output.add_stream_from_template(track)
            if defaults is not None:
                copy.disposition = int(defaults[number])
            for packet in opened.demux(track):
                if packet.size:
                    at = packet.dts if packet.dts is not None else packet.pts
                    packets.append((float((at or 0) * packet.time_base), len(packets), packet, copy))
        for _, _, packet, copy in sorted(packets, key=lambda item: item[:2]):
            moved = round(shift_s / packet.time_base)
            packet.pts, packet.dts = (None if t is None else t + moved for t in (packet.pts, packet.dts))
            packet.stream = copy
            output.mux(packet)
    return path


def packet_places(path: Path, kind: str) -> list[tuple[int, int, float]]:
    """(place in the file, size, time in seconds) of each packet of the first track of a kind."""
    with av.open(str(path)) as opened:
        packets: Any = opened.demux(getattr(opened.streams, kind)[0])
        return [
            (packet.pos, packet.size, float((packet.pts or 0) * packet.time_base)) for packet in packets if packet.size
        ]


def spoilt(path: Path, target: Path, kind: str, nth: int, count: int = 1) -> Path:
    """A copy in which `count` packets from the nth on are all ones."""
    content = bytearray(path.read_bytes())
    for place, size, _ in packet_places(path, kind)[nth : nth + count]:
        content[place : place + size] = b"\xff" * size
    target.write_bytes(content)
    return target


def patched(path: Path, target: Path, mark: bytes, offset: int, value: bytes) -> Path:
    """A copy with `value` in place of what stands `offset` bytes behind a mark."""
    content = bytearray(path.read_bytes())
    place = content.find(mark)
    assert place > 0
    content[place + offset : place + offset + len(value)] = value
    target.write_bytes(content)
    return target
