"""The parts of the load generator that need no server."""

import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from auralsam2_client.calls.wire import ClipShape, check_clip
from auralsam2_client.errors import BadInput
from loadtests.generator.clips import load_clips, procedural
from loadtests.generator.modes import MODES, find_mode
from loadtests.generator.options import DEFAULT_HOST, check, metrics_page
from loadtests.generator.scenarios import SCENARIOS, arrivals, is_steady, share_at
from loadtests.generator.sender import Outcome

SHAPE = ClipShape(2, 32)


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
        find_mode("smell")


@pytest.mark.parametrize("name", list(SCENARIOS))
def test_scenarios_stay_within_the_load(name: str) -> None:
    shares = [share_at(name, at / 100) for at in range(100)]
    assert max(shares) == 1
    assert min(shares) > 0
    assert (len(set(shares)) == 1) == is_steady(name) == (name in ("steady", "soak"))


CHOSEN: dict[str, object] = {
    "host": DEFAULT_HOST,
    "mode": "audio",
    "wire": "raw",
    "scenario": "steady",
    "arrival_rate": 0.0,
    "call_timeout": 60.0,
    "metrics_url": "host",
    "run_time": None,
}


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"host": "localhost"}, "has no port"),
        ({"mode": "smell"}, "must be one of audio"),
        ({"wire": "gif"}, "must be one of auto"),
        ({"scenario": "flood"}, "must be one of steady"),
        ({"arrival_rate": "-1"}, "must be 0"),
        ({"arrival_rate": "nan"}, "must be 0"),
        ({"call_timeout": "0"}, "must be more than 0 seconds"),
        ({"metrics_url": "127.0.0.1:8002"}, "must be host, none, or a page"),
        ({"scenario": "spike"}, "none is given. Give one"),
    ],
)
def test_a_choice_that_cannot_be_is_refused(changed: dict[str, object], says: str) -> None:
    check(CHOSEN)
    check(CHOSEN | {"scenario": "spike", "run_time": 60, "arrival_rate": "2.5"})
    with pytest.raises(BadInput, match=says):
        check(CHOSEN | changed)


def test_the_metrics_page_is_the_hosts_own_unless_another_is_given() -> None:
    assert metrics_page("http://[::1]:7001", "host") == "http://[::1]:8002/metrics"
    assert metrics_page("dns:///server:8001", "host") is None
    assert metrics_page(DEFAULT_HOST, "none") is None
    assert metrics_page(DEFAULT_HOST, "http://far:8003/metrics") == "http://far:8003/metrics"


def test_frames_go_as_files_where_they_are_asked_to() -> None:
    clip = procedural(SHAPE, 1)[0]
    names = [{tensor.name() for tensor in find_mode("audio").prepare(clip, wire)[0]} for wire in ("raw", "jpeg")]
    assert names == [{"FRAMES", "AUDIO"}, {"FRAMES_ENCODED", "AUDIO"}]


def test_arrivals_come_at_the_rate_and_with_the_scenario() -> None:
    due = list(arrivals(50, 100))
    assert due == sorted(due) == list(arrivals(50, 100))
    assert len(due) == pytest.approx(5000, rel=0.05)
    spike = np.array(list(arrivals(50, 90, "spike")))
    middle = np.count_nonzero((spike >= 30) & (spike < 60))
    assert middle / (len(spike) - middle) == pytest.approx(2.0, rel=0.15)


def test_latency_counts_from_the_time_at_which_a_clip_was_due() -> None:
    late = Outcome("load-0-1", due_s=10.0, sent_s=12.0, done_s=12.5, code="OK")
    assert (late.latency_s, late.answer_s) == (2.5, 0.5)


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
