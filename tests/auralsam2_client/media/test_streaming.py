"""A clip read while it is segmented gives what `read_media` gives, to the bit, and holds no more than it has to."""

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from auralsam2_client.errors import BadInput
from auralsam2_client.media import sound_ahead, sound_reader
from auralsam2_client.media.clips import cut_clips
from auralsam2_client.media.notes import Notes
from auralsam2_client.media.reader import read_media
from auralsam2_client.media.reading import Reading
from auralsam2_client.media.sampling import Plan
from auralsam2_client.media.streaming import MediaStream

T = 4
COUNT_BEFORE = Plan.count_before


def assert_streams_what_is_read(path: Path, **wanted: Any) -> None:
    media = read_media(path, **wanted)
    with MediaStream(path, **wanted) as stream:
        listener = stream.listener()
        clips = list(stream.clips(T))
        sound = listener.between(0, round((float(media.times_s[-1]) + 1) * 16_000))
    whole = list(cut_clips(media, T))
    assert [clip.first for clip in clips] == [clip.first for clip in whole]
    for found, read in zip(clips, whole, strict=True):
        assert found.frames.tobytes() == read.frames.tobytes()
        assert found.times_s.tobytes() == read.times_s.tobytes()
        assert found.heard.samples.tobytes() == read.heard.samples.tobytes()
        assert found.heard.num_repeated == read.heard.num_repeated
    assert stream.num_read == len(media.frames)
    assert (stream.source, stream.fps, stream.files) == (media.source, media.fps, media.files)
    if media.sound is None:
        assert sound is None
    else:
        assert sound is not None
        num_heard = round((float(media.times_s[-1]) + 1) * 16_000)
        assert np.array_equal(sound[:num_heard], media.sound[:num_heard])


@pytest.mark.parametrize(
    "wanted",
    [
        {"fps": 3.0},
        {"fps": 10.0, "max_frames": 9},
        {"fps": 5.0, "start_s": 1.3},
        {"fps": 2.0, "silent": True},
    ],
)
def test_clips_are_those_of_the_whole_video(clip: Path, wanted: dict[str, Any]) -> None:
    assert_streams_what_is_read(clip, **wanted)


@pytest.fixture
def short_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clip of three seconds is many pieces long."""
    monkeypatch.setattr(sound_reader, "_PIECE_S", 0.2)
    monkeypatch.setattr(sound_ahead, "_MARGIN_S", 1.0)


@pytest.mark.parametrize("wanted", [{"fps": 10.0}, {"fps": 1.0}, {"fps": 10.0, "start_s": 1.0, "max_frames": 8}])
def test_sound_that_comes_in_pieces_is_that_of_the_whole(
    clip: Path, short_pieces: None, wanted: dict[str, Any]
) -> None:
    assert_streams_what_is_read(clip, **wanted)


def test_more_frames_than_declared_hear_what_they_would(
    clip: Path, short_pieces: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Plan, "count_before", lambda plan, end_s, frame_s: min(4, COUNT_BEFORE(plan, end_s, frame_s)))
    with MediaStream(clip, fps=10.0) as stream:
        assert stream.expected == 4
        monkeypatch.undo()
        monkeypatch.setattr(sound_ahead, "_MARGIN_S", 1.0)
        found = np.concatenate([part.heard.samples for part in stream.clips(T)])
    media = read_media(clip, fps=10.0)
    assert found.tobytes() == np.concatenate([part.heard.samples for part in cut_clips(media, T)]).tobytes()


def test_sound_is_in_memory_from_the_slowest_of_its_hearers_on(
    clips: ModuleType, tmp_path: Path, short_pieces: None
) -> None:
    path = clips.write_clip(tmp_path / "long.mp4", clips.grey_frames(120), sound=clips.tone(12.0))
    most: dict[bool, int] = {}
    for slow in (False, True):
        with MediaStream(path, fps=4.0) as stream:
            listener = stream.listener()
            for number, _ in enumerate(stream.clips(T)):
                if not slow:
                    listener.between(number * 16_000, (number + 1) * 16_000)
                most[slow] = max(most.get(slow, 0), len(stream._sound._held))
            if not slow:
                with pytest.raises(BadInput, match="before the clips"):
                    stream.listener()
    # A clip's second, one before it, the margin behind it, and a piece.
    assert most[False] <= 4.3 * 16_000
    assert most[True] >= 11.9 * 16_000


def test_sound_that_is_damaged_past_the_last_frame_is_no_matter(
    clip: Path, short_pieces: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []
    read = Reading.sound_pieces

    def damaged(reading: Reading, until_s: float, notes: Notes) -> Iterator[NDArray[np.float32]]:
        asked.append(until_s)
        for number, piece in enumerate(read(reading, until_s, notes)):
            if until_s > 3.1 and number == 2:
                raise BadInput("damaged")
            yield piece

    monkeypatch.setattr(Reading, "sound_pieces", damaged)
    with MediaStream(clip, fps=10.0, max_frames=20) as stream:
        found = np.concatenate([part.heard.samples for part in stream.clips(T)])
    monkeypatch.undo()
    media = read_media(clip, fps=10.0, max_frames=20)
    assert found.tobytes() == np.concatenate([part.heard.samples for part in cut_clips(media, T)]).tobytes()
    assert max(asked) > 3.1


def test_a_folder_is_read_file_by_file(clips: ModuleType, tmp_path: Path) -> None:
    folder = clips.write_folder(tmp_path / "frames", 9)
    assert_streams_what_is_read(folder, silent=True)
    with MediaStream(folder, silent=True) as stream:
        assert stream.expected == 9
        next(stream.clips(T))
        assert stream.num_read == T


def test_a_folder_of_two_sizes_is_refused_at_once(clips: ModuleType, tmp_path: Path) -> None:
    folder = clips.write_folder(tmp_path / "frames", 3)
    Image.new("RGB", (20, 20)).save(folder / "9999.png")
    with pytest.raises(BadInput, match="one size"):
        MediaStream(folder, silent=True)


def test_frames_are_read_as_they_are_taken(clip: Path) -> None:
    with MediaStream(clip, fps=10.0) as stream:
        assert stream.expected == 30
        parts = stream.clips(T)
        for number in (1, 2, 3):
            next(parts)
            assert stream.num_read == number * T


def test_what_is_wrong_with_the_beginning_is_told_at_once_and_the_rest_where_it_is_met(
    clip: Path, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match="does not exist"):
        MediaStream(tmp_path / "none.mp4")
    with pytest.raises(BadInput, match="ends at 3"):
        MediaStream(clip, start_s=4.0)
    with pytest.raises(BadInput, match="max_frames = 0"):
        MediaStream(clip, max_frames=0)


def test_a_video_without_sound_is_refused_before_a_clip_is_given(clips: ModuleType, tmp_path: Path) -> None:
    mute = clips.write_clip(tmp_path / "mute.mp4", clips.grey_frames(20))
    with pytest.raises(BadInput, match="no sound track"):
        MediaStream(mute)
