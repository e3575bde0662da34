"""The bench of the wire on the real server, with stages that answer at once. Nothing here looks at the clock."""

import json
from pathlib import Path

import numpy as np
import pytest

from auralsam2_client.contract import USUAL_RESULTS, Sizes, tensors
from export.settings import ExportSettings
from loadtests.wire.__main__ import main
from loadtests.wire.measuring import Timings, drawn_clip, figures
from loadtests.wire.report import markdown
from loadtests.wire.ways import RAW, Way

T, S = 5, 224


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wire")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("loadtests.wire.ways.WAYS", (RAW, Way("by pigeon", {"pigeon": True})))
        assert main(["--out", str(folder), "--sizes", str(S), "--callers", "2", "--seconds", "0"]) == 0
    return folder


def test_a_row_counts_bytes_and_parts_that_add_up(out: Path) -> None:
    record = json.loads((out / "wire.json").read_text())
    (row,) = record["rows"]
    assert (row["build"], row["way"], row["image_size"], row["callers"]) == (f"instant-{S}-t{T}", "raw", S, 2)
    frames, audio = drawn_clip(S, T)
    assert row["bytes_in"] == frames.nbytes + audio.nbytes + np.int32().nbytes, "the clip, and ANSWER"
    # A text on the wire has its length before it.
    told = ExportSettings(preset="compact", image_size=S, num_frames=T, precision="float32").build_info("float32")
    answer = sum(4 * int(np.prod(spec.shape)) for spec in tensors(USUAL_RESULTS, Sizes(T, S, 0)))
    assert row["bytes_out"] == answer + 4 + len(json.dumps(told)), "the answer, and what is served"
    assert row["clips"] >= 10
    assert row["client_ms"] > 0
    assert row["server_ms"] > 0
    assert row["p50_ms"] <= row["p95_ms"]
    assert record["beside_graphs"] == []


def test_what_is_left_out_is_said_with_its_reason(out: Path) -> None:
    text = (out / "wire.md").read_text()
    assert "Left out: by pigeon: Client has no argument 'pigeon'." in text
    assert f"| `instant-{S}-t{T}` | raw | {S} | 2 |" in text


def test_parts_are_means_and_the_whole_has_quantiles() -> None:
    timings = [Timings([0.010, 0.020], [0.008, 0.016], 7, 3), Timings([0.030], [0.024], 7, 3)]
    row = figures(timings, server_ms=6.0, stages_ms=3.0, took_s=0.5)
    assert row["beside_ms"] == pytest.approx(16.0 - 3.0)
    assert row["p50_ms"] == 20.0
    assert row["client_ms"] == pytest.approx(4.0)
    assert row["wire_ms"] == pytest.approx(10.0)
    assert row["client_ms"] + row["wire_ms"] + row["server_ms"] == pytest.approx(20.0)
    assert (row["clips"], row["clips_per_s"]) == (3, 6.0)


def test_a_build_beside_its_graphs_has_a_table_of_its_own() -> None:
    beside = {"build": "b", "way": "raw", "p50_ms": 21.0, "p95_ms": 30.0, "graphs_p50_ms": 20.0, "ratio": 1.05}
    about = {"machine": "m", "load_average": 0.0, "num_frames": 5, "for_s": 1.0, "left_out": {}, "rows": []}
    assert "| `b` | raw | 21.0 / 30.0 | 20.0 | 1.050 |" in markdown({**about, "beside_graphs": [beside]})
    assert "graphs alone" not in markdown({**about, "beside_graphs": []})


def test_the_drawn_clip_is_always_the_same() -> None:
    first, again = drawn_clip(S, T), drawn_clip(S, T)
    assert first[0].shape == (T, S, S, 3)
    assert [first[0].tobytes(), first[1].tobytes()] == [again[0].tobytes(), again[1].tobytes()]
    assert len({frame.tobytes() for frame in first[0]}) == T
