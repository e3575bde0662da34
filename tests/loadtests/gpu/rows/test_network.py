"""The rows of a clip and of its stages, on a CPU with the smallest network: all but the graph is the same code."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from sam2 import sam2_video_predictor
from torch import Tensor

from loadtests.cases.case import Case
from loadtests.gpu.clip import sam2_video
from loadtests.gpu.clip.ways import FORMS, Bench, Form
from loadtests.gpu.measuring.capture import Captured
from loadtests.gpu.planning import jobs
from loadtests.gpu.rows.network import measure_network
from loadtests.gpu.rows.stages import count_stages, measure_stages

CASE = Case("compact", 224, 2)


class Kept:
    def __init__(self) -> None:
        self.rows: dict[str, dict[str, Any]] = {}

    def __call__(self, row: str, record: dict[str, Any]) -> None:
        self.rows[row] = record


def over_once_built() -> Callable[[], float]:
    """A clock that stands still while three ways are built, and then is past every end: the least rounds are run."""
    looks = iter([0.0] * 5)
    return lambda: next(looks, 1e6)


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench(CASE, "cpu")


def test_rows_have_times_masks_and_reasons(bench: Bench) -> None:
    kept, ours = Kept(), "ours, one graph, float32"
    measure_network(bench, [jobs.PUBLISHED, ours, jobs.PREDICTOR], 10, kept, clock=over_once_built())
    assert set(kept.rows) == {jobs.PUBLISHED, ours, jobs.PREDICTOR}
    assert "SAM2 has no configuration for 'compact'" in kept.rows[jobs.PREDICTOR]["reason"]
    for row in (jobs.PUBLISHED, ours):
        record = kept.rows[row]
        assert record["mask_iou"] > 0.999
        assert record["frames_per_s"] == pytest.approx(2e3 / record["median_ms"])
        assert record["slowest_frames_per_s"] <= record["frames_per_s"] <= record["fastest_frames_per_s"]
        assert record["rounds"] >= 5
        assert record["peak_bytes"] is None  # a card's memory alone is watched


def test_other_masks_are_seen(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    operation = bench._operation(Form("ours"))
    monkeypatch.setattr(bench, "_operation", lambda form: lambda: -operation())
    assert (bench.prepare(Form("ours")).mask_iou or 0.0) < 0.5


def test_what_is_not_built_in_time_is_left_out(bench: Bench) -> None:
    kept = Kept()
    looks = iter([0.0] * 3)
    # The time for building is over before the second way.
    measure_network(bench, ["ours, one graph, float32", jobs.PUBLISHED], 80, kept, clock=lambda: next(looks, 1e6))
    assert kept.rows[jobs.PUBLISHED] == {"reason": jobs.OUT_OF_TIME}
    assert "median_ms" in kept.rows["ours, one graph, float32"]


def test_autocast_narrows_the_published_form(bench: Bench) -> None:
    way = bench.prepare(FORMS["published, autocast, bfloat16"])
    assert 0.9 < (way.mask_iou or 0.0) < 1.0


def test_stages_are_timed_and_counted(bench: Bench) -> None:
    kept = Kept()
    peaks = {"gemm_flop_per_s": 1e11, "copy_bytes_per_s": 1e10}
    looks = iter([0.0])
    measure_stages(bench, "float32", 1, kept, peaks=peaks, clock=lambda: next(looks, 1e6))
    stages = kept.rows[jobs.STAGES_ROW]["stages"]
    assert list(stages) == ["vggish", "hiera", "aural_fuser", "sam2_decoder"]
    hiera = stages["hiera"]
    assert hiera["gemm_share"] == pytest.approx(1e9 * hiera["gflop"] / (1e-3 * hiera["median_ms"]) / 1e11)
    assert hiera["copy_share"] == pytest.approx(1e9 * hiera["gbytes"] / (1e-3 * hiera["median_ms"]) / 1e10)
    assert "CUPTI" in kept.rows[jobs.KERNELS_ROW]["reason"]
    more = count_stages(Case("compact", 224, 4))
    assert more["hiera"].flop / 1e9 == pytest.approx(2 * hiera["gflop"], rel=0.01)
    # Later frames read more memories.
    assert more["sam2_decoder"].flop / 1e9 > 2 * stages["sam2_decoder"]["gflop"]


def test_the_predictor_of_sam2_tracks_frames_in_memory() -> None:
    """Its modules stand in: what is held is that frames and a point reach them, and masks come back."""
    asked: dict[str, Any] = {}

    class Predictor:
        def init_state(self, path: str) -> str:
            images, height, width = sam2_video_predictor.load_video_frames(video_path=path, image_size=0)
            asked.update(images=images, size=(height, width))
            return "state"

        def add_new_points_or_box(self, state: str, frame: int, obj: int, **given: Any) -> None:
            asked.update(given)

        def propagate_in_video(self, state: str) -> Any:
            for frame in sam2_video_predictor.tqdm(range(2), desc="propagate in video"):
                yield frame, [1], torch.full((1, 1, 8, 8), float(frame))

    frames = torch.randint(0, 255, (2, 8, 8, 3), dtype=torch.uint8)
    before = sam2_video_predictor.load_video_frames
    masks = sam2_video.track_point(Predictor(), frames)
    assert masks.shape == (2, 8, 8)
    assert masks.mean((1, 2)).tolist() == [0.0, 1.0]
    assert asked["images"].shape == (2, 3, 8, 8)
    assert asked["size"] == (8, 8)
    assert (asked["points"], asked["labels"]) == ([[4.0, 4.0]], [1])
    assert sam2_video_predictor.load_video_frames is before


def test_what_is_captured_reads_what_is_loaded() -> None:
    doubled: Captured[Tensor] = Captured(lambda x: 2 * x, [torch.ones(3)])
    assert torch.equal(doubled.replay(), torch.full((3,), 2.0))
    doubled.load(torch.full((3,), 5.0))
    assert torch.equal(doubled.replay(), torch.full((3,), 10.0))
