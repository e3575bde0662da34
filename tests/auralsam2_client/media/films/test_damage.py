"""What is damaged, cut or declared wrongly: everything else comes out, in step, with a line about it."""

import re
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from auralsam2_client.errors import BadInput
from auralsam2_client.media import reading as media
from auralsam2_client.media.reader import read_media
from tests.auralsam2_client.media.films import filming, telling

WHOLE = list(range(0, 175, 25))
PRORES = filming.Recipe(
    video="prores", pixel_format="yuv422p10le", audio="pcm_s16le", sample_format="s16", video_options={}
)


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize(
    ("kind", "nth", "words"),
    [
        (
            "video",
            60,
            r"{} packets? of the video cannot be decoded, the first at 2\.\d+ s; the picture before stands in",
        ),
        ("audio", 100, r"{} packets? of the sound cannot be decoded, the first at 2\.\d+ s; silence stands in"),
    ],
)
def test_a_damaged_packet_takes_nothing_else_with_it(
    film: Path, tmp_path: Path, kind: str, nth: int, words: str, count: int
) -> None:
    clip = filming.spoilt(film, tmp_path / "bad.mp4", kind, nth, count)
    found = read_media(clip)
    assert telling.numbers(found) == WHOLE
    assert telling.seconds(found) == list(range(7))
    assert len(found.notes) == 1
    assert re.search(words.format(count), found.notes[0])
    assert found.facts()["notes"] == list(found.notes)
    with pytest.raises(BadInput, match=rf"bad\.mp4 is not whole: {words.format(count)}.*--strict"):
        read_media(clip, strict=True)


def test_a_lost_picture_is_stood_in_for_by_the_one_before(tmp_path: Path) -> None:
    whole = filming.film(tmp_path / "whole.mov", 3, PRORES)
    clip = filming.spoilt(whole, tmp_path / "bad.mov", "video", 50)
    assert telling.numbers(read_media(clip)) == [0, 25, 49]
    assert read_media(whole, strict=True).notes == ()


def test_a_picture_with_damage_inside_is_shown_and_counted(tmp_path: Path) -> None:
    """A decoder mends what it can, and marks the picture."""
    recipe = filming.Recipe(video="mpeg4", video_options={}, bit_rate=2_000_000, container="mp4")
    random = np.random.default_rng(0)
    noisy = [np.clip(telling.picture(i) + random.integers(-20, 20, (48, 80, 3)), 0, 255) for i in range(75)]
    whole = filming.write(tmp_path / "whole.mp4", [shown.astype(np.uint8) for shown in noisy], None, recipe)
    content = bytearray(whole.read_bytes())
    for nth in (10, 60):
        place, size, _ = filming.packet_places(whole, "video")[nth]
        content[place + size // 2 : place + size // 2 + 24] = b"\xff" * 24
    (tmp_path / "bad.mp4").write_bytes(content)
    found = read_media(tmp_path / "bad.mp4", silent=True)
    assert telling.numbers(found) == [0, 25, 50]
    assert re.search(r"2 pictures of the video came damaged, the first at 0\.40 s", found.notes[0])
    assert read_media(whole, silent=True, strict=True).notes == ()


def test_a_lost_first_picture_is_told(tmp_path: Path) -> None:
    whole = filming.film(tmp_path / "whole.mov", 3, PRORES)
    found = read_media(filming.spoilt(whole, tmp_path / "bad.mov", "video", 0))
    assert telling.numbers(found) == [1, 26, 51]
    assert "the first 0.04 s of the video hold no whole picture" in found.notes[0]


def test_sound_behind_many_lost_packets_stays_in_step(film: Path, tmp_path: Path) -> None:
    """Each lost packet is 21 ms: less than a gap that is filled without damage, and together a quarter of a second."""
    clip = film
    for index in range(12):
        clip = filming.spoilt(clip, tmp_path / f"{index}.mp4", "audio", 20 + 10 * index)
    sound, whole = read_media(clip).sound, read_media(film).sound
    assert sound is not None
    assert whole is not None
    assert abs(len(sound) - len(whole)) <= 16
    assert telling.second_at(sound, 6.4) == 6


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 s as a transport stream with a key frame every 2 s."""
    recipe = filming.Recipe(gop=50, container="mpegts", audio="mp2", sample_format="s16p")
    return filming.film(tmp_path_factory.mktemp("recording") / "recording.ts", 12, recipe)


def test_a_piece_begins_with_its_first_key_frame(recording: Path, tmp_path: Path) -> None:
    places = filming.packet_places(recording, "video")
    begin_s = min(time_s for _, _, time_s in places)
    place = next(place for place, _, time_s in places if time_s >= begin_s + 0.5)
    piece = tmp_path / "piece.ts"
    piece.write_bytes(recording.read_bytes()[place // 188 * 188 :])
    found = read_media(piece)
    assert telling.numbers(found) == list(range(50, 300, 25))
    assert telling.seconds(found) == list(range(2, 12))
    assert re.search(r"the first 1\.\d\d s of the video hold no whole picture", found.notes[0])
    with pytest.raises(BadInput, match="no whole picture"):
        read_media(piece, strict=True)


@pytest.mark.parametrize("gop", [50, 1000])
@pytest.mark.parametrize("container", ["mpegts", "matroska", "flv"])
def test_every_start_shows_its_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, container: str, gop: int
) -> None:
    monkeypatch.setattr(media, "_SEEK_BEYOND_S", 1.0)
    clip = filming.film(tmp_path / "clip", 4, filming.Recipe(gop=gop, container=container))
    for start_s in (1.2, 2.0, 3.0, 3.9):
        found = read_media(clip, start_s=start_s)
        assert telling.numbers(found) == [int((start_s + index) * 25 + 1e-6) for index in range(len(found.frames))]
        assert len(found.frames) == (3 if start_s == 1.2 else 4 - int(start_s))
        if start_s == int(start_s):
            assert telling.seconds(found) == list(range(int(start_s), 4))


@pytest.mark.parametrize("second", ["starts again", "leaps ahead", "leaps back"])
def test_joined_recordings(tmp_path: Path, second: str) -> None:
    pieces = [filming.film(tmp_path / f"{first}.ts", 3.2, filming.MPEG2, first=first) for first in (0, 80, 160)]
    if second != "starts again":
        moved = 1 if second == "leaps ahead" else 0
        source = pieces[moved]
        pieces[moved] = filming.remux(
            tmp_path / "moved.ts", [(source, "video"), (source, "audio")], options={}, shift_s=500.0
        )
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(piece.read_bytes() for piece in pieces))
    for start_s in (0.0, 6.0):
        found = read_media(joined, start_s=start_s)
        expected = list(range(round(25 * start_s), 240, 25))
        assert len(found.frames) == len(expected)
        # Behind a joint the clock may be off by as much as sound and video of a piece end apart.
        assert within(telling.numbers(found), expected, 4)
        assert telling.seconds(found) == list(range(int(start_s), 10))
    assert found.duration_s == pytest.approx(9.6, abs=0.2)
    assert re.search("the clock of the file starts again or leaps 2 times", found.notes[0])
    assert read_media(joined, strict=True).notes == read_media(joined).notes


def within(found: list[int], expected: list[int], most: int) -> bool:
    return all(abs(one - other) <= most for one, other in zip(found, expected, strict=True))


def test_a_joined_piece_with_other_tracks_is_told(tmp_path: Path) -> None:
    """PyAV knows the tracks of a file's beginning, and ended with an IndexError where others come up."""
    other = replace(filming.MPEG2, container_options={"mpegts_start_pid": "0x200", "mpegts_pmt_start_pid": "0x1100"})
    pieces = [
        filming.film(tmp_path / "a.ts", 2.2, filming.MPEG2),
        filming.film(tmp_path / "b.ts", 2.2, other, first=55),
    ]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(piece.read_bytes() for piece in pieces))
    found = read_media(joined)
    assert telling.numbers(found) == [0, 25, 50]
    assert re.search(r"the last 0\.\d MiB hold a piece with other tracks", found.notes[0])
    with pytest.raises(BadInput, match="other tracks"):
        read_media(joined, strict=True)


def test_a_subtitle_may_outlast_the_video(film: Path, tmp_path: Path) -> None:
    texts = tmp_path / "texts.srt"
    texts.write_text("1\n00:00:00,500 --> 00:00:02,000\nhello\n\n2\n00:00:06,500 --> 00:00:12,000\nThe end\n")
    titled = filming.remux(tmp_path / "t.mkv", [(film, "video"), (film, "audio"), (texts, "subtitles")])
    found = read_media(titled, strict=True)
    assert (telling.numbers(found), telling.seconds(found), found.notes) == (WHOLE, list(range(7)), ())


@pytest.mark.parametrize("declared_s", [100.0, 36_000.0, 1e9])
@pytest.mark.parametrize("container", ["matroska", "flv"])
def test_a_header_may_lie(film: Path, tmp_path: Path, container: str, declared_s: float) -> None:
    copy = filming.remux(
        tmp_path / ("c.mkv" if container == "matroska" else "c.flv"), [(film, "video"), (film, "audio")]
    )
    mark, offset, scale = (b"\x44\x89\x88", 3, 1000.0) if container == "matroska" else (b"duration", 9, 1.0)
    lying = filming.patched(
        copy, tmp_path / copy.name.replace("c", "l", 1), mark, offset, struct.pack(">d", declared_s * scale)
    )
    found = read_media(lying)
    assert (telling.numbers(found), telling.seconds(found)) == (WHOLE, list(range(7)))
    assert re.search(r"only up to 7\.\d\d s of its declared \d+\.\d\d s", found.notes[0])
    with pytest.raises(BadInput, match="its header is wrong"):
        read_media(lying, strict=True)


def test_ten_hours_are_refused_before_a_picture_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jpeg = filming.Recipe(video="mjpeg", pixel_format="yuvj420p", video_options={})
    path = filming.hours(tmp_path / "ten.mov", 36_000, jpeg)
    with monkeypatch.context() as patch:
        patch.setattr("auralsam2_client.media.video_reader.VideoReader.frames", None)
        with pytest.raises(BadInput, match=r"more than 600 frames at 1 a second.*--max-frames"):
            read_media(path, silent=True)
    found = read_media(path, silent=True, start_s=3599.0, max_frames=2)
    assert found.frames.shape == (2, 48, 80, 3)
    assert len(read_media(path, silent=True, fps=0.01).frames) == 360
