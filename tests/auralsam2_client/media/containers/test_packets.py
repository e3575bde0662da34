"""Packets of a file, past damage of its container; what it declares, and what it holds."""

import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import pytest

from auralsam2_client.media.containers.packets import PacketReader, declares_duration, may_leap, open_container
from auralsam2_client.media.reader import read_media
from tests.auralsam2_client.media.films import filming, telling

STREAM = SimpleNamespace(index=0, type="video", time_base=Fraction(1, 10), duration=None, start_time=None)


def packet(at: int) -> Any:
    return SimpleNamespace(
        pts=at,
        dts=at,
        duration=1,
        time_base=Fraction(1, 10),
        stream=STREAM,
        is_corrupt=False,
        is_discard=False,
        pos=None,
    )


def broken_container(runs: list[list[int]]) -> Any:
    """A container whose packets, by their times, end in an error after each run but the last."""
    left = [list(run) for run in runs]

    def demux() -> Iterator[Any]:
        yield from map(packet, left.pop(0) if left else [])
        if left:
            raise av.InvalidDataError(0, "damaged")

    return SimpleNamespace(demux=demux, format=SimpleNamespace(flags=0, name="mov,mp4"), duration=None)


def test_packets_behind_damage_are_read() -> None:
    reader = PacketReader(broken_container([[0, 1], [], [2], [3]]))
    assert [found.pts for found, _ in reader.packets()] == [0, 1, 2, 3]
    assert reader.num_failures == 3
    assert isinstance(reader.last_failure, av.InvalidDataError)
    assert reader.ends_s == {0: pytest.approx(0.4)}


def test_a_container_that_gets_nowhere_is_left() -> None:
    reader = PacketReader(broken_container([[0], *([] for _ in range(100)), [1]]))
    assert [found.pts for found, _ in reader.packets()] == [0]
    assert reader.num_failures < 40


@pytest.mark.parametrize(
    ("container", "leaps", "declares"),
    [
        ("mp4", False, True),
        ("matroska", False, True),
        ("mpegts", True, False),
        ("flv", False, True),
        ("h264", False, False),
    ],
)
def test_what_a_format_allows(tmp_path: Path, container: str, leaps: bool, declares: bool) -> None:
    path = filming.write(tmp_path / "clip", [telling.picture(1)] * 3, None, filming.Recipe(container=container), fps=2)
    with open_container(path) as opened:
        assert (may_leap(opened), declares_duration(opened)) == (leaps, declares)


def test_what_an_edit_list_leaves_out_is_not_missed(tmp_path: Path) -> None:
    """The first 38 pictures belong to the group of the first shown, and are decoded; none of them is shown."""
    whole = filming.film(tmp_path / "whole.mp4", 5, filming.Recipe(gop=100), silent=True)
    content = whole.read_bytes()
    place = content.find(b"elst") + 12
    duration, begin = struct.unpack(">Ii", content[place : place + 8])
    later = struct.pack(">Ii", duration - 1520, begin + round(1.52 * 12_800))
    clip = filming.patched(whole, tmp_path / "clip.mp4", b"elst", 12, later)
    found = read_media(clip, silent=True, strict=True)
    assert telling.numbers(found) == [38, 63, 88, 113]
    assert found.duration_s == pytest.approx(3.48, abs=0.01)
