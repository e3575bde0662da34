"""The gate of the class head: the network's own graph passes, one that names other things does not."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from auralsam2.classes.class_head import ClassHead
from auralsam2.presets import preset
from auralsam2.stages.class_stage import class_stage
from auralsam2.stages.clip_stages import Stage
from auralsam2_client.contract import CLASS_MAP
from export.errors import ParityError
from export.gates.class_gate import pass_class_gate
from export.gates.parity import run_network
from model_repository.stage_runtime.engine import Array


class InPytorch:
    """The head's module as an engine, its labels turned where it is asked to."""

    def __init__(self, stage: Stage, wrong_share: float = 0.0, moved: float = 0.0) -> None:
        self._stage, self._wrong, self._moved = stage, wrong_share, moved
        self.input_shapes = {spec.name: spec.shape for spec in stage.inputs}
        self.output_shapes = {spec.name: spec.shape for spec in stage.outputs}

    def __call__(self, inputs: Mapping[str, Any]) -> dict[str, Array]:
        found = run_network(self._stage, {name: torch.from_numpy(value) for name, value in inputs.items()})
        answer = {name: value.numpy() for name, value in found.items()}
        labels = answer[CLASS_MAP].reshape(-1)
        count = int(self._wrong * labels.size)
        labels[:count] = labels[:count] % 6 + 1
        answer["CLASS_SCORES"] = answer["CLASS_SCORES"] + np.float32(self._moved)
        return answer


@pytest.fixture(scope="module")
def stage() -> Stage:
    torch.manual_seed(1)
    return class_stage(ClassHead(preset("compact"), 6), preset("compact"), 2, 224)


@pytest.fixture(scope="module")
def wire(stage: Stage) -> dict[str, Array]:
    random = np.random.default_rng(2)
    return {spec.name: random.normal(size=spec.shape).astype(np.float32) for spec in stage.inputs}


def test_what_agrees_is_measured(stage: Stage, wire: dict[str, Array]) -> None:
    lines: list[str] = []
    found = pass_class_gate(stage, InPytorch(stage), wire, "float32", lines.append)
    assert [parity.output for parity in found] == ["CLASS_MAP", "CLASS_SCORES"]
    assert "labels agree on 100.000%" in lines[0]


@pytest.mark.parametrize(("wrong", "moved", "says"), [(0.01, 0, "CLASS_MAP agrees on"), (0, 0.5, "CLASS_SCORES")])
def test_what_differs_is_kept_out(stage: Stage, wire: dict[str, Array], wrong: float, moved: float, says: str) -> None:
    with pytest.raises(ParityError, match=says):
        pass_class_gate(stage, InPytorch(stage, wrong, moved), wire, "float32", lambda line: None)
