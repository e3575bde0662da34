"""The network's own fused operators in ONNX: nodes with bodies, to be replaced, and plain operators for CPUs."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from auralsam2.stages.clip_stages import Stage
from auralsam2_client.contract import STAGE_NAMES
from model_repository.stage_runtime.engine import load_engine

FUSED_STAGES = ("aural_fuser", "sam2_decoder")


def domains(proto: onnx.ModelProto) -> dict[str, int]:
    """How many nodes of our own domain the graph has, by operator."""
    own = [node.op_type for node in proto.graph.node if node.domain == "auralsam2"]
    return {name: own.count(name) for name in own}


def test_each_call_is_one_node_and_has_a_body(with_functions: dict[str, Path]) -> None:
    """`compact`: three fusions, four visual blocks; two layers of memory attention for the second of two frames."""
    fuser, decoder = (onnx.load(with_functions[name]) for name in FUSED_STAGES)
    assert domains(fuser) == {"AudioVisualFusion": 3, "DepthwiseGelu": 4}
    assert domains(decoder) == {"MemoryAttention": 2}
    for proto in (fuser, decoder):
        assert {function.name for function in proto.functions} == set(domains(proto))
        assert {node.domain for function in proto.functions for node in function.node} == {""}


@pytest.mark.parametrize("name", FUSED_STAGES)
def test_onnx_runtime_runs_the_bodies(
    name: str, with_functions: dict[str, Path], plain_stages: tuple[Stage, ...], plain_graphs: dict[str, Path]
) -> None:
    """With functions, and written out as OpenVINO needs it: the same numbers as PyTorch."""
    stage = plain_stages[STAGE_NAMES.index(name)]
    draw = np.random.default_rng(0)
    inputs = {spec.name: draw.standard_normal(spec.shape, dtype=np.float32) for spec in stage.inputs}
    with torch.no_grad():
        wanted = stage.module(*(torch.from_numpy(value) for value in inputs.values()))
    for path in (with_functions[name], plain_graphs[name]):
        found = load_engine("onnxruntime", path)(inputs)
        for spec, value in zip(stage.outputs, wanted, strict=True):
            np.testing.assert_allclose(found[spec.name], value.numpy(), atol=1e-4 * float(value.abs().max()))


@pytest.mark.parametrize("name", FUSED_STAGES)
def test_what_is_served_on_a_cpu_holds_standard_operators_only(name: str, small_graphs: dict[str, Path]) -> None:
    proto = onnx.load(small_graphs[name])
    assert not domains(proto)
    assert not proto.functions
