"""Held pictures cost one encoding each, and show as what was encoded, frame by frame."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.codeccontext import VideoCodecContext

from service.results.held_pictures import HELD_FROM, HeldPictures
from service.results.video import write_video

RATE = Fraction(25)
# What libx264 writes for 100 x 70 px by default: B-frames, CABAC.
USUAL = {"preset": "ultrafast", "threads": "1"}


def pictures(count: int, height: int = 70, width: int = 100) -> Iterator[np.ndarray]:
    random = np.random.default_rng(4)
    for _ in range(count):
        small = random.integers(0, 256, (height // 10, width // 10, 3), np.uint8)
        yield np.repeat(np.repeat(small, 10, axis=0), 10, axis=1)


def decoded(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


@pytest.fixture
def by_hand(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the frames that were written by hand."""
    found: list[int] = []
    make = HeldPictures.frame

    def frame(held: HeldPictures, number: int) -> bytes:
        found.append(number)
        return make(held, number)

    monkeypatch.setattr(HeldPictures, "frame", frame)
    return found


@pytest.mark.parametrize("counts", [[25, 25, 25], [HELD_FROM, 9, 8], [40, 1, 3]])
def test_a_held_picture_is_the_same_in_each_of_its_frames(
    tmp_path: Path, by_hand: list[int], counts: list[int]
) -> None:
    path = write_video(tmp_path / "a.mp4", zip(pictures(3), counts, strict=True), RATE, None, 16_000)
    assert by_hand == list(range(1, max(counts)))
    shown = decoded(path)
    assert len(shown) == sum(counts)
    assert not any(frame.is_corrupt for frame in shown)
    assert np.diff([frame.pts for frame in shown]).tolist() == [512] * (len(shown) - 1)
    firsts = np.cumsum([0, *counts[:-1]])
    assert [index for index, frame in enumerate(shown) if frame.key_frame] == firsts.tolist()
    for picture, first, count in zip(pictures(3), firsts, counts, strict=True):
        found = [frame.to_ndarray() for frame in shown[first : first + count]]
        assert all(np.array_equal(found[0], other) for other in found)
        rgb = shown[first].to_ndarray(format="rgb24")
        off = np.abs(rgb[4::10, 4::10].astype(int) - picture[4::10, 4::10])
        assert off.mean() < 4


def test_pictures_of_a_few_frames_are_left_to_the_encoder(tmp_path: Path, by_hand: list[int]) -> None:
    path = write_video(tmp_path / "a.mp4", ((each, HELD_FROM - 1) for each in pictures(2)), RATE, None, 16_000)
    assert (len(decoded(path)), by_hand) == (2 * (HELD_FROM - 1), [])


@pytest.mark.parametrize("params", ["cabac=1:bframes=0", "cabac=0:bframes=2", "cabac=0:bframes=0:ref=3"])
def test_streams_of_another_kind_are_not_written_by_hand(params: str) -> None:
    context = VideoCodecContext.create("libx264", "w")
    context.width, context.height, context.pix_fmt = 100, 70, "yuv420p"
    context.framerate, context.time_base = RATE, 1 / RATE
    context.options = {**USUAL, "x264-params": params}
    context.flags |= 1 << 22  # parameter sets apart from the frames
    context.open()
    assert context.extradata
    assert HeldPictures.of_stream(context.extradata) is None
    assert HeldPictures.of_stream(b"") is None


def test_a_slice_never_holds_what_looks_like_a_start_code() -> None:
    for num_macroblocks in (1, 3600, 65_535, 65_536, 1 << 20):
        held = HeldPictures(4, num_macroblocks, deblocking_is_told=True)
        for number in range(1, 17):
            unit = held.frame(number)
            assert unit[:5] == b"\x00\x00\x00\x01\x41"
            assert not any(code in unit[5:] for code in (b"\x00\x00\x00", b"\x00\x00\x01", b"\x00\x00\x02"))
