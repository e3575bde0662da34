"""The gate as a whole: it lets the small build's graphs through, and not one whose weights are off by a few percent."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from auralsam2 import AuralSAM2
from auralsam2.model.parity_weights import parity_state
from auralsam2.stages.clip_stages import Stage
from export.errors import ParityError
from export.gates.parity import Array
from export.gates.stage_gate import GateResult, pass_gate
from export.settings import ExportSettings
from model_repository.stage_runtime.engine import Engine, load_engine


@pytest.fixture
def gate(
    onnxruntime_settings: ExportSettings,
    small_model: AuralSAM2,
    small_stages: tuple[Stage, ...],
    small_graphs: dict[str, Path],
    small_clip: dict[str, Array],
) -> Callable[..., GateResult]:
    def run(model: AuralSAM2 = small_model, report: Callable[[str], None] = print, **graphs: Path):  # type: ignore[no-untyped-def]
        files = small_graphs | graphs

        def load(stage: str) -> Engine:
            return load_engine("onnxruntime", files[stage])

        return pass_gate(onnxruntime_settings, model, small_stages, load, "float32", small_clip, report)

    return run


def test_the_other_engine_passes_the_gate_too(gate, small_build: Path, small_stages) -> None:  # type: ignore[no-untyped-def]
    lines: list[str] = []
    passed = gate(report=lines.append)
    outputs = [(stage.name, spec.name) for stage in small_stages for spec in stage.outputs]
    assert [(row.stage, row.output) for row in passed.parity] == [
        *outputs,
        ("auralsam2", "MASK_LOGITS"),
        ("stages in PyTorch", "MASK_LOGITS"),
    ]
    with np.load(small_build / "golden.npz") as golden:
        for name in (spec.name for spec in small_stages[-1].outputs):
            tolerance = float(golden[f"TOLERANCE_{name}"])
            np.testing.assert_allclose(passed.network[name], golden[name], atol=1e-6 + tolerance, rtol=0)
            np.testing.assert_allclose(passed.graphs[name], golden[name], atol=tolerance, rtol=0)
    for stage in small_stages:
        assert any(stage.name in line for line in lines)


@pytest.mark.parametrize("stage", ["vggish", "hiera", "aural_fuser", "sam2_decoder"])
def test_a_weight_that_is_off_by_a_few_percent_is_caught_in_its_stage(  # type: ignore[no-untyped-def]
    stage: str, gate, perturbed: Callable[[str, float], Path], small_stages: tuple[Stage, ...]
) -> None:
    with pytest.raises(ParityError) as caught:
        gate(**{stage: perturbed(stage, 1.05)})
    (outputs,) = [{spec.name for spec in entry.outputs} for entry in small_stages if entry.name == stage]
    message = re.match(
        rf"{stage} graph vs PyTorch: (\w+) (relative RMS \d\.\de-\d\d, budget|agrees on)", str(caught.value)
    )
    assert message is not None, caught.value
    assert message[1] in outputs
    assert "float32" in str(caught.value)


def test_a_graph_that_answers_nan_is_caught(gate, perturbed: Callable[[str, float], Path]) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ParityError, match=r"vggish: AUDIO_TOKENS is .* finite False"):
        gate(vggish=perturbed("vggish", float("nan")))


def test_stages_that_are_not_this_network_are_caught(gate, small_settings: ExportSettings) -> None:  # type: ignore[no-untyped-def]
    """Every graph equals its stage, but the stages were cut from another network."""
    other = AuralSAM2.from_preset(small_settings.preset, small_settings.size)
    other.load_released(parity_state(other, seed=1))
    with pytest.raises(ParityError, match="stages in PyTorch graph vs PyTorch: MASK_LOGITS"):
        gate(model=other)
