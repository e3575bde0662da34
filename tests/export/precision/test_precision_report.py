"""The precision report of a small export: its errors against figures computed here, its scores, its tables."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from auralsam2 import AuralSAM2
from auralsam2.data.world.held_out import read_split
from auralsam2.evaluation.in_process import network_predictor
from auralsam2.evaluation.protocol import PROJECT_AVSBENCH
from auralsam2.evaluation.scoring import evaluate
from auralsam2.network.readout import NO_OBJECT_LOGIT
from auralsam2.stages.clip_stages import Stage
from auralsam2_client.contract import STAGE_NAMES
from export.errors import ExportError
from export.gates.parity import run_network
from export.precision import precision_report as module
from export.precision.precision_report import (
    PRECISIONS,
    OutputError,
    PrecisionReport,
    output_error,
    precision_report,
    why_not_scored,
)
from export.settings import ExportSettings
from model_repository.stage_runtime.engine import Array, load_engine

CLIPS = 2
FINAL = ("MASK_LOGITS", "CANDIDATE_LOGITS", "IOU", "OBJECT_SCORE")
# 2^-24, 2^-12 and 2^-9 a rounding, enlarged by some tens of layers that add theirs.
BUDGET = {"float32": 1e-5, "float16": 2e-3, "bfloat16": 1.6e-2}


@pytest.fixture(scope="module")
def lines() -> list[str]:
    return []


@pytest.fixture(scope="module")
def report(
    small_settings: ExportSettings, plain_graphs: dict[str, Path], small_model: AuralSAM2, lines: list[str]
) -> PrecisionReport:
    return precision_report(small_settings, plain_graphs, small_model, clips=CLIPS, report=lines.append)


def relative(errors: tuple[OutputError, ...]) -> dict[str, float]:
    found = {error.output: error.relative_rms for error in errors}
    assert None not in found.values()
    return {name: value for name, value in found.items() if value is not None}


def test_every_output_of_every_stage_is_there(report: PrecisionReport, small_stages: tuple[Stage, ...]) -> None:
    wanted = [(stage.name, spec.name) for stage in small_stages for spec in stage.outputs]
    for figures in report.figures:
        assert [(error.stage, error.output) for error in figures.stages] == wanted
        assert [error.output for error in figures.chain] == list(FINAL)
    assert tuple(figures.precision for figures in report.figures) == PRECISIONS


@pytest.mark.parametrize("part", ["stages", "chain"])
def test_each_precision_errs_more_than_the_one_before_and_within_its_budget(report: PrecisionReport, part: str) -> None:
    by_precision = {figures.precision: relative(getattr(figures, part)) for figures in report.figures}
    for output in by_precision["float32"]:
        errors = [by_precision[precision][output] for precision in PRECISIONS]
        assert errors == sorted(errors), output
        assert 5 * errors[0] < errors[2], output
        for error, precision in zip(errors, PRECISIONS, strict=True):
            assert error < BUDGET[precision], (output, precision)


def test_masks_agree_with_the_network_s(report: PrecisionReport) -> None:
    for figures, least in zip(report.figures, (1.0, 0.99, 0.98), strict=True):
        masks = [error.mask_iou for error in (*figures.stages, *figures.chain) if error.output == "MASK_LOGITS"]
        assert len(masks) == 2
        assert all(value is not None and least <= value <= 1 for value in masks)
        assert {e.output for e in figures.chain if e.mask_iou is not None} == {"MASK_LOGITS", "CANDIDATE_LOGITS"}


def test_the_figures_are_those_of_a_run_by_hand(
    report: PrecisionReport,
    small_stages: tuple[Stage, ...],
    plain_graphs: dict[str, Path],
    small_clip: dict[str, Array],
) -> None:
    """One stage, fed with the network's own tensors: sound in, tokens out."""
    stage = small_stages[0]
    (wanted,) = run_network(stage, {"AUDIO": torch.from_numpy(small_clip["AUDIO"])}).values()
    found = load_engine("onnxruntime", plain_graphs[stage.name])({"AUDIO": small_clip["AUDIO"]})["AUDIO_TOKENS"]
    error = found.astype(np.float64) - wanted.numpy()
    (reported,) = (each for each in report.figures[0].stages if each.stage == "vggish")
    rms = np.sqrt(np.mean(error**2))
    assert reported.max_abs == pytest.approx(np.abs(error).max())
    assert reported.rms == pytest.approx(rms)
    assert reported.relative_rms == pytest.approx(rms / np.sqrt(np.mean(wanted.numpy() ** 2)), rel=1e-5)


def test_scores_are_the_evaluation_s_own(
    report: PrecisionReport, small_settings: ExportSettings, small_model: AuralSAM2
) -> None:
    samples = read_split("multi", CLIPS, num_frames=small_settings.num_frames)
    wanted = evaluate("multi", samples, network_predictor(small_model), protocol=PROJECT_AVSBENCH).scores[
        small_settings.read_out
    ]
    assert report.not_scored is None
    assert report.num_clips == CLIPS
    for figures, tolerance in zip(report.figures, (1e-4, 5e-3, 2e-2), strict=True):
        assert figures.score is not None
        assert figures.score.mean_jaccard == pytest.approx(wanted.mean_jaccard, abs=tolerance)
    float32, float16, bfloat16 = (figures.score_mask_iou for figures in report.figures)
    assert float32 == 1
    # On clips this few float16 may move no pixel across the edge of a mask.
    assert float16 is not None
    assert bfloat16 is not None
    assert 0.98 < bfloat16 < float16 <= 1


def test_an_altered_graph_stands_out_where_it_was_altered(
    small_settings: ExportSettings,
    plain_graphs: dict[str, Path],
    small_model: AuralSAM2,
    perturbed: Callable[[str, float], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A weight of hiera doubled: its own outputs, not those of later stages, and the whole chain."""
    monkeypatch.setattr(module, "PRECISIONS", ("float32",))
    monkeypatch.setattr(module, "why_not_scored", lambda settings: "not today")
    graphs = {**plain_graphs, "hiera": perturbed("hiera", 2.0)}
    found = precision_report(small_settings, graphs, small_model)
    (figures,) = found.figures
    worst = {name: max(e.relative_rms or 0 for e in figures.stages if e.stage == name) for name in STAGE_NAMES}
    assert worst.pop("hiera") > 1e-2
    assert max(worst.values()) < BUDGET["float32"]
    assert relative(figures.chain)["CANDIDATE_LOGITS"] > 1e-3
    assert (found.num_clips, figures.score, figures.score_mask_iou) == (0, None, None)
    assert "No M_J: not today." in found.as_markdown()


def test_graphs_of_whole_clips(
    small_settings: ExportSettings,
    gpu_graphs: dict[str, Path],
    small_model: AuralSAM2,
    report: PrecisionReport,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As they go to a GPU, the tokens passing through hiera: the same outputs."""
    monkeypatch.setattr(module, "PRECISIONS", ("float16",))
    monkeypatch.setattr(module, "why_not_scored", lambda settings: "not today")
    (figures,) = precision_report(small_settings, gpu_graphs, small_model).figures
    usual = report.figures[PRECISIONS.index("float16")]
    assert [e.output for e in figures.stages] == [e.output for e in usual.stages]
    for ours, theirs in zip(figures.stages, usual.stages, strict=True):
        assert ours.rms == pytest.approx(theirs.rms, rel=0.05)


def test_a_line_of_progress_for_each_precision(report: PrecisionReport, lines: list[str]) -> None:
    assert [line.split()[1] for line in lines] == list(PRECISIONS)
    assert all(f"on {CLIPS} clips" in line for line in lines)


def test_the_record_is_json(report: PrecisionReport) -> None:
    record = json.loads(json.dumps(report.as_record(), allow_nan=False))
    assert record["name"] == report.name
    float16 = record["figures"][1]
    assert set(float16["casts"]) == set(STAGE_NAMES)
    assert float16["casts"]["hiera"]["narrow"] > float16["casts"]["hiera"]["wide"]
    assert float16["score"]["mean_jaccard"] == report.figures[1].score.mean_jaccard  # type: ignore[union-attr]


def test_the_tables_are_whole_and_hold_every_output(report: PrecisionReport, small_stages: tuple[Stage, ...]) -> None:
    text = report.as_markdown()
    for block in text.split("\n\n"):
        rows = [line for line in block.splitlines() if line.startswith("|")]
        assert len({row.count("|") for row in rows}) <= 1, rows[0]
    for stage in small_stages:
        for spec in stage.outputs:
            (row,) = (line for line in text.splitlines() if line.startswith(f"| {stage.name} | {spec.name} |"))
            assert row.count(" / ") == len(PRECISIONS)
    assert f"| {report.figures[1].score.mean_jaccard:.4f} |" in text  # type: ignore[union-attr]


def test_what_is_not_finite_is_said_and_leaves_json_valid(report: PrecisionReport) -> None:
    wanted = np.array([1.0, 2.0], np.float32)
    broken = output_error("hiera", "PATCHES_1", np.array([1.0, np.inf], np.float32), wanted)
    assert (broken.max_abs, broken.rms) == (None, None)
    figures = replace(report.figures[0], stages=(broken,), chain=report.figures[0].chain)
    found = replace(report, figures=(figures,))
    assert "| hiera | PATCHES_1 | not finite |" in found.as_markdown()
    json.dumps(found.as_record(), allow_nan=False)


def test_errors_of_one_output() -> None:
    found = output_error("hiera", "PATCHES_1", np.array([3.0, 4.5], np.float32), np.array([3.0, 4.0], np.float32))
    rms = np.sqrt(0.125)
    wanted = (0.5, rms, 0.5 / np.sqrt(12.5), rms / np.sqrt(12.5))
    assert (found.max_abs, found.rms, found.relative_max_abs, found.relative_rms) == pytest.approx(wanted)
    assert found.mask_iou is None


def test_an_empty_frame_counts_in_the_masks_alone() -> None:
    """-1024 on one side only would be an error of a thousand, on both sides a reference of a thousand."""
    empty = np.full((1, 2, 2), NO_OBJECT_LOGIT, np.float32)
    mask = np.array([[[1.0, -1.0], [1.0, -1.0]]], np.float32)
    found = output_error(
        "chain", "MASK_LOGITS", np.concatenate([mask + 0.5, empty, empty]), np.concatenate([mask, empty, mask])
    )
    assert (found.max_abs, found.relative_rms) == pytest.approx((0.5, 0.5))
    assert found.mask_iou == pytest.approx(2 / 3)
    nothing = output_error("chain", "MASK_LOGITS", empty, mask)
    assert (nothing.max_abs, nothing.mask_iou) == (0, 0)


def test_a_missing_graph_is_named(
    small_settings: ExportSettings, plain_graphs: dict[str, Path], small_model: AuralSAM2
) -> None:
    graphs = {name: path for name, path in plain_graphs.items() if name != "hiera"}
    with pytest.raises(ExportError, match="no graph of hiera; the report needs all of vggish, hiera"):
        precision_report(small_settings, graphs, small_model)


def test_only_weights_that_know_the_procedural_world_are_scored(tmp_path: Path) -> None:
    assert why_not_scored(ExportSettings()) is None
    assert (
        why_not_scored(ExportSettings(preset="hiera_tiny")) == "the weights are not trained, their masks mean nothing"
    )
    trained = ExportSettings(preset="hiera_tiny", checkpoint="auralsam2_avs_v1m.pth")
    assert why_not_scored(trained) == "only compact is trained on the procedural world"
