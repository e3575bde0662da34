"""The corpus: whatever a clip is made of, its pictures, its seconds and its damage come out as a player shows them."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings

from auralsam2_client.errors import BadInput
from auralsam2_client.media import reading as media
from auralsam2_client.media.reader import read_media
from tests.auralsam2_client.media.films import corpus, telling

# Without shrinking, a failure takes no longer than a success; the example is printed with the blob that repeats it.
BOUNDED = settings(
    max_examples=40, deadline=None, print_blob=True, phases=(Phase.explicit, Phase.reuse, Phase.generate)
)


@pytest.fixture(autouse=True)
def seeking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clips of three seconds are sought in too."""
    monkeypatch.setattr(media, "_SEEK_BEYOND_S", 0.7)


@BOUNDED
@given(corpus.cases())
def test_what_a_player_shows_is_read(case: corpus.Case) -> None:
    with tempfile.TemporaryDirectory() as folder:
        clip = case.write(Path(folder))
        times_s, pictures, seconds = case.expected()
        if case.damage == "broken off":
            check_broken_off(case, clip, pictures)
            return
        found = read_media(clip, start_s=case.start_s)
        assert found.times_s.tolist() == pytest.approx(times_s)
        last = case.damaged_picture // corpus.GOP * corpus.GOP + corpus.GOP
        hurt = range(case.damaged_picture, last) if case.damage == "a packet of the video" else range(0)
        shown = telling.numbers(found)
        assert all(one == other for one, other in zip(shown, pictures, strict=True) if other not in hurt)
        assert telling.seconds(found) == seconds
        if case.damage == "none":
            assert read_media(clip, start_s=case.start_s, strict=True).notes == ()


def check_broken_off(case: corpus.Case, clip: Path, pictures: list[int]) -> None:
    """What is there of a copy that broke off is shown, with a note, or refused where the time is not in it."""
    try:
        found = read_media(clip, start_s=case.start_s, silent=True)
    except BadInput:
        assert case.start_s >= 1.0
        return
    shown = telling.numbers(found)
    assert 0 < len(shown) <= len(pictures)
    assert shown == pictures[: len(shown)]
    if len(shown) < len(pictures):
        assert "broke off" in found.notes[0]
