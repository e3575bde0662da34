"""Tables and picture of a bench, from a record as a card would give it."""

from typing import Any
from xml.etree import ElementTree

import pytest

from loadtests.cases.case import Case
from loadtests.gpu.planning import jobs as plans
from loadtests.gpu.planning.jobs import Job, plan
from loadtests.gpu.report.picture import Bar, Panel, draw, panels
from loadtests.gpu.report.tables import markdown

ABOUT = {
    "card": {
        "card": "NVIDIA H200",
        "driver": "580.159",
        "cuda": "13.0",
        "power_limit_w": "700.00",
        "versions": {"torch": "2.11.0"},
    },
    "commit": "d65fec2",
    "clocks": [{"clocks.sm": "1755", "clocks.max.sm": "1980"}, {"clocks.sm": "1980", "clocks.max.sm": "1980"}],
    "seconds": 580.0,
}
CASE = Case("hiera_base_plus", 1024, 5)


def clip(ms: float, iou: float | None = 0.9991) -> dict[str, Any]:
    return {
        "median_ms": ms,
        "p20_ms": 0.99 * ms,
        "p80_ms": 1.02 * ms,
        "frames_per_s": 5e3 / ms,
        "fastest_frames_per_s": 5e3 / (0.99 * ms),
        "slowest_frames_per_s": 5e3 / (1.02 * ms),
        "mask_iou": iou,
        "peak_bytes": 3_210_000_000,
        "ready_s": 4.25,
        "rounds": 40,
    }


@pytest.fixture
def jobs() -> list[Job]:
    return plan([CASE])


@pytest.fixture
def rows(jobs: list[Job]) -> dict[str, dict[str, Any]]:
    network, kernels, stages, compiled, service = jobs[:5]
    operator = {
        "us": {form: {"median": us, "p20": us - 1, "p80": us + 1} for form, us in (("eager", 677.0), ("ours", 189.0))},
        "left_out": {"FlexAttention": "InductorError: no valid triton configs"},
        "kernels": [{"kernel": "attend_memory", "launches": 1, "us": 167.0, "copy_share": 0.03}],
        "copy_floor_us": 4.0,
        "gemm_floor_us": 99.0,
        "copy_share": 0.02,
        "gemm_share": 0.52,
    }
    stage = {**clip(21.4), "launches": 463, "gflop": 3292.8, "gbytes": 29.5, "gemm_share": 0.2, "copy_share": 0.33}
    calls = {"frames_per_s": 110.0, "median_ms": 45, "p20_ms": 44, "p80_ms": 47, "p95_ms": 60, "failures": 0}
    return {
        network.key(plans.PUBLISHED): clip(200.8, 1.0),
        network.key(plans.PREDICTOR): clip(180.0, None),
        network.key(plans.OURS): clip(38.3),
        network.key("ours, eager, float16"): {"reason": "NetworkError: no float16"},
        compiled.key(plans.OURS): clip(38.4),
        compiled.key(plans.COMPILED): clip(29.7, 0.98),
        kernels.key("memory attention, float16"): operator,
        kernels.key(plans.peaks_row("float16")): {
            "precision": "float16",
            "gemm_side": 8192,
            "gemm_flop_per_s": 758e12,
            "copy_bytes_per_s": 4.1e12,
        },
        service.key(plans.callers_row(1)): {**calls, "mask_iou": 0.999},
        service.key(plans.READY_ROW): {
            "export_s": 60.2,
            "first_start_s": 41.0,
            "second_start_s": 19.6,
            "precision": "float16",
        },
        stages.key(plans.STAGES_ROW): {"precision": "float16", "stages": {"hiera": stage}},
        stages.key(plans.KERNELS_ROW): {
            "precision": "float16",
            "total_us": 100.0,
            "kernels": [{"stage": "hiera", "kernel": "layer_norm", "launches": 48, "us": 38.0}],
        },
    }


def test_the_page_has_every_figure(jobs: list[Job], rows: dict[str, dict[str, Any]]) -> None:
    text = markdown(jobs, rows, ABOUT)
    assert "NVIDIA H200, driver 580.159, CUDA 13.0, power limit 700.00 W; torch 2.11.0. Code d65fec2." in text
    assert "1755 to 1980 MHz of at most 1980 MHz" in text
    assert "| ours, one graph, float16 | 38.30 (37.92-39.07) | 130.5 | 3.21 | 4.2 | 0.9991 |" in text
    assert (
        "| SAM2's own video predictor, one point, bfloat16 autocast | 180.00 (178.20-183.60) | 27.8 | 3.21 | 4.2 |  |"
        in text
    )
    assert "| memory attention, float16 | 677.0 |  |  | 189.0 | 99.0 | 52% | 2% |" in text
    assert "`attend_memory` | 1 | 167.0 | 3% |" in text
    assert "In float16, one product of 8192 cubed reached 758 TFLOP/s, a copy 4.10 TB/s" in text
    assert "| service, callers: 1 | 110.0 | 45 (44-47) | 60 | 0 | 0.9990 |" in text
    assert "ready 41 s after the first start, 20 s after the second; float16." in text
    assert "| hiera | 21.40 (21.19-21.83) | 463 | 3293 | 29.5 | 20% | 33% |" in text
    assert "| hiera | `layer_norm` | 48 | 38 | 38.0% |" in text


def test_masks_that_differ_and_rows_that_did_not_run_are_named(
    jobs: list[Job], rows: dict[str, dict[str, Any]]
) -> None:
    text = markdown(jobs, rows, ABOUT)
    assert f"**Not the same masks** as eager float32, IoU below 0.995: {plans.COMPILED}." in text
    assert "- ours, eager, float16 (`hiera_base_plus`, 1024 px, T = 5): NetworkError: no float16" in text
    assert "- memory attention, float16: FlexAttention: InductorError: no valid triton configs" in text
    assert "service, callers: 8" in text.partition("## Not run")[2]
    rows[jobs[3].key(plans.COMPILED)]["mask_iou"] = 0.995
    assert "Masks of every row agree" in markdown(jobs, rows, ABOUT)


def test_an_empty_record_is_a_page_of_what_was_not_run(jobs: list[Job]) -> None:
    text = markdown(jobs, {}, {**ABOUT, "clocks": []})
    assert text.count("##") == 1
    assert "not asked for" in text
    assert panels(jobs, {}) == []


def test_the_picture_is_svg_with_a_bar_a_row(jobs: list[Job], rows: dict[str, dict[str, Any]]) -> None:
    made = panels(jobs, rows)
    assert [panel.title for panel in made] == [
        "hiera_base_plus, 1024 px, 5 frames: frames a second",
        "fused operators: microseconds",
    ]
    labels = [bar.label for bar in made[0].bars]
    # What is timed again beside the compiled form is drawn once.
    assert labels == [plans.PUBLISHED, plans.PREDICTOR, plans.OURS, plans.COMPILED, "service, callers: 1"]
    root = ElementTree.fromstring(draw(made, "NVIDIA H200 <& others>"))
    words = [node.text for node in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"NVIDIA H200 <& others>", plans.OURS, "131", "189.0"} <= set(words)


def test_bars_are_as_long_as_their_values() -> None:
    panel = Panel("speeds", [Bar("published, a", 50.0), Bar("ours, b", 100.0)])
    root = ElementTree.fromstring(draw([panel], ""))
    short, long = (float(node.attrib["width"]) for node in list(root.iter("{http://www.w3.org/2000/svg}rect"))[1:])
    assert long == pytest.approx(2 * short, rel=0.01)
