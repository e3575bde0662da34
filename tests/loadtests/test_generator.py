"""The parts of the load generator that need no server."""

import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from auralsam2_client.calls.wire import ClipShape, check_clip
from auralsam2_client.errors import BadInput
from loadtests.clips import load_clips, procedural
from loadtests.modes import MODES, mode_named
from loadtests.overload import Phase, judge
from loadtests.picture import draw_table
from loadtests.report import Summary, percentiles, summarise
from loadtests.resources import Reading, growth
from loadtests.run import account
from loadtests.scenarios import SCENARIOS, arrivals, share_at
from loadtests.sender import Outcome
from loadtests.throughput_table import PUBLISHED, SERVICE, TABLE_1, Timed, markdown, tables

SHAPE = ClipShape(2, 32)


def outcome(number: int, due: float, took: float, code: str = "OK", late: float = 0.0) -> Outcome:
    return Outcome(f"load-0-{number}", due, due + late, due + late + took, code)


def test_made_up_clips_are_what_the_model_takes_and_the_same_again() -> None:
    first, again = load_clips("procedural:3", SHAPE), load_clips("procedural:3", SHAPE)
    assert len(first) == 3
    for clip, twin in zip(first, again, strict=True):
        check_clip(clip.frames, clip.audio, SHAPE)
        np.testing.assert_array_equal(clip.frames, twin.frames)
        assert clip.audio.any()
    assert not np.array_equal(first[0].frames, first[1].frames)


@pytest.mark.parametrize("source", ["", "file:", "http://x", "avsbench:"])
def test_an_unknown_source_lists_the_known_ones(source: str) -> None:
    with pytest.raises(BadInput, match="must be procedural"):
        load_clips(source, SHAPE)


def test_modes_ask_with_what_they_are_named_by() -> None:
    names = {"points": "POINT_LABELS", "box": "POINT_LABELS", "mask": "MASK_INPUT"}
    clip = procedural(SHAPE, 1)[0]
    for name, mode in MODES.items():
        tensors = mode.tensors(SHAPE.image_size)
        expected = {names[kind] for kind in mode.kinds if kind in names}
        expected |= {"POINT_COORDS"} if "POINT_LABELS" in expected else set()
        assert set(tensors) == expected | (set() if "audio" in mode.kinds else {"USE_AUDIO"})
        labels = tensors.get("POINT_LABELS", np.array([])).tolist()
        assert (labels.count(1), labels.count(2)) == (4 * ("points" in mode.kinds), int("box" in mode.kinds))
        assert {tensor.name() for tensor in mode.prepare(clip)[0]} == {"FRAMES", "AUDIO", *tensors}, name
    with pytest.raises(BadInput, match="must be one of audio"):
        mode_named("smell")
    assert {prompts for _, prompts, _ in TABLE_1} == set(MODES)


@pytest.mark.parametrize("name", list(SCENARIOS))
def test_scenarios_stay_within_the_load(name: str) -> None:
    shares = [share_at(name, at / 100) for at in range(100)]
    assert max(shares) == 1
    assert min(shares) > 0
    assert (len(set(shares)) == 1) == (name in ("steady", "soak"))


def test_arrivals_come_at_the_rate_and_with_the_scenario() -> None:
    due = list(arrivals(50, 100))
    assert due == sorted(due) == list(arrivals(50, 100))
    assert len(due) == pytest.approx(5000, rel=0.05)
    spike = np.array(list(arrivals(50, 90, "spike")))
    middle = np.count_nonzero((spike >= 30) & (spike < 60))
    assert middle / (len(spike) - middle) == pytest.approx(2.0, rel=0.15)


def test_latency_counts_from_the_time_at_which_a_clip_was_due() -> None:
    late = outcome(1, 10.0, 0.5, late=2.0)
    assert (late.latency_s, late.answer_s) == (2.5, 0.5)


def test_a_summary_tells_offered_from_achieved_and_leaves_the_warm_up_out() -> None:
    # One clip a second for 20 s; from 10 s on every second one is refused, the last answer comes after the end.
    outcomes = [outcome(n, n, 0.5) for n in range(10)]
    outcomes += [outcome(n, n, 0.01, "UNAVAILABLE") if n % 2 else outcome(n, n, 3.0) for n in range(10, 20)]
    found = summarise(outcomes, num_frames=5, duration_s=20, warm_up_s=10)
    assert found.offered_clips_per_s == 1
    assert found.by_code == {"OK": 5, "UNAVAILABLE": 5}
    # Due at 10, 12, 14, 16 and answered before 20; the one of 18 s ends at 21.
    assert found.answered_clips_per_s == pytest.approx(0.4)
    assert found.frames_per_s == pytest.approx(2.0)
    assert found.latency_ms["p50"] == pytest.approx(3000)
    assert found.refusal_ms["max"] == pytest.approx(10)
    assert found.first_request_ms == pytest.approx(500)
    assert percentiles([]) == {}


def test_ids_are_counted() -> None:
    full = [outcome(n, n, 1) for n in (1, 2, 3)]
    assert account(full) == {"sent": 3, "ended": 3, "ended_twice": 0}
    assert account([full[0], full[2]]) == {"sent": 3, "ended": 2, "ended_twice": 0}
    assert account([*full, full[1]]) == {"sent": 3, "ended": 4, "ended_twice": 1}


def phase(name: str, answered: float, p95: float, refused: float | None, *, lost: int = 0, server: int = 90) -> Phase:
    refusals = {} if refused is None else {"p50": refused, "p95": refused}
    summary = Summary(30, 9, 9, answered, 5 * answered, {}, {"p95": p95}, refusals, {"OK": 90}, 1.0, 90)
    return Phase(name, summary, {"sent": 90, "ended": 90 - lost, "ended_twice": 0}, 90, server)


GOOD = (phase("saturation", 7, 900, None), phase("once", 6.8, 950, 20), phase("twice", 6.9, 1000, 30))


def test_a_service_that_keeps_its_word_passes() -> None:
    assert all(verdict.holds for verdict in judge(GOOD))


@pytest.mark.parametrize(
    ("place", "broken"),
    [
        (0, phase("twice", 6.5, 1000, 30)),
        (1, phase("twice", 6.9, 1500, 30)),
        (2, phase("twice", 6.9, 1000, 101)),
        (2, phase("twice", 6.9, 1000, None)),
        (3, phase("twice", 6.9, 1000, 30, lost=1)),
        (4, phase("twice", 6.9, 1000, 30, server=91)),
    ],
)
def test_each_promise_can_be_broken(place: int, broken: Phase) -> None:
    assert [verdict.holds for verdict in judge((*GOOD[:2], broken))] == [index != place for index in range(5)]


def test_growth_is_from_the_first_to_the_last_tenth_after_the_warm_up() -> None:
    readings = [Reading(float(n), 1000 if n < 20 else 100 + n, 50, 5, 0) for n in range(121)]
    found = growth(readings, warm_up_s=20)
    assert found["resident_bytes"] == pytest.approx(215.5 / 124.5 - 1)
    assert found["open_files"] == found["shared_memory_bytes"] == 0
    with pytest.raises(ValueError, match="1 readings"):
        growth(readings, warm_up_s=120)


def test_the_table_has_every_row_of_the_paper_and_says_what_is_missing() -> None:
    fast, slow = (0.1, 0.2, 0.3), (0.4, 0.4, 0.4)
    found = tables(
        [Timed(SERVICE, "audio", "compact", 256, 5, fast), Timed(PUBLISHED, "audio", "compact", 256, 5, slow)]
    )
    row = next(row for row in found["table_1"] if row["method"] == SERVICE)
    assert (row["prompts"], row["paper_fps"]) == ("audio", 16.4)
    assert row["fps"]["median"] == pytest.approx(25)
    assert row["fps"]["p20"] < 25 < row["fps"]["p80"]
    assert row["ratio_to_published"] == pytest.approx(2)
    text = markdown(found, "conditions")
    assert "| GAVS | audio | 14.8 | | another method; not implemented here" in text
    assert "| SAM2 | box | 17.4 | | not measured: this build takes no prompts" in text
    assert sum(f"| {paper:.1f} |" in text for _, _, paper in TABLE_1) == len(TABLE_1)


def test_each_build_has_a_panel_of_its_own(tmp_path: Path) -> None:
    """The same methods in two builds are bars apart, not on top of each other."""
    seconds, heights = (0.1, 0.2, 0.3), []
    for builds in (["compact"], ["compact", "hiera_tiny"]):
        rows = [Timed(method, "audio", build, 256, 5, seconds) for build in builds for method in (SERVICE, PUBLISHED)]
        path = tmp_path / f"{len(builds)}.png"
        draw_table(tables(rows)["table_5"], "a caption " * 40, path)
        with Image.open(path) as picture:
            heights.append(picture.height)
    assert heights[1] > 1.5 * heights[0]


def test_a_video_is_cut_into_clips_with_their_own_sound(demo_clip: Path) -> None:
    clips = load_clips(f"file:{demo_clip}", SHAPE)
    assert len(clips) == 3, "five seconds, two frames a clip"
    for clip in clips:
        check_clip(clip.frames, clip.audio, SHAPE)
        assert clip.audio.any()
    assert not np.array_equal(clips[0].frames, clips[1].frames)
    np.testing.assert_array_equal(clips[2].frames[0], clips[2].frames[1])


def test_a_data_set_in_avsbenchs_layout_needs_no_labels(folders: ModuleType, tmp_path: Path) -> None:
    folders.write_avsbench(tmp_path, {"v1s": ["a", "b"], "v2": ["c"]})
    shutil.rmtree(tmp_path / "v1s" / "a" / "labels_rgb")
    clips = load_clips(f"avsbench:{tmp_path}", SHAPE)
    assert [clip.name for clip in clips] == ["v1s/a", "v1s/b", "v2/c"]
    for clip in clips:
        check_clip(clip.frames, clip.audio, SHAPE)
        assert clip.audio.any()
    assert len(load_clips(f"avsbench:{tmp_path}", SHAPE, limit=2)) == 2
    with pytest.raises(BadInput, match=r"holds no <subset>/<uid>/frames"):
        load_clips(f"avsbench:{tmp_path / 'v1s'}", SHAPE)
