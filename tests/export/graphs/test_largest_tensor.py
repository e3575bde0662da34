"""No tensor of 256 x 256 x 256 numbers or more passes between two operators at production size, on a CPU.

Walked on meta tensors, so that 1024 px costs nothing. Attention is one operator here: OpenVINO fuses it, which is held
on the graph that it executes.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from auralsam2 import AuralSAM2
from auralsam2.stages.clip_stages import Stage, build_stages
from auralsam2_client.contract import STAGE_NAMES
from export.graphs.onnx_graph import DTYPES

LARGEST = 256**3
NUM_FRAMES = 5


class Largest(TorchDispatchMode):
    """The largest tensor that an operator gives."""

    def __init__(self) -> None:
        super().__init__()
        self.found: tuple[int, str, tuple[int, ...]] = (0, "", ())

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._overloadpacket is not torch.ops.aten.scaled_dot_product_attention:
            with self:
                out = func.decompose(*args, **(kwargs or {}))
            if out is not NotImplemented:
                return out
        out = func(*args, **(kwargs or {}))
        for each in () if func.is_view else tree_leaves(out):
            if isinstance(each, Tensor) and each.numel() > self.found[0]:
                self.found = (each.numel(), str(func), tuple(each.shape))
        return out


def largest(stage: Stage) -> tuple[int, str, tuple[int, ...]]:
    module = stage.module.to("meta")
    inputs = [torch.zeros(stage.graph_shape(s), dtype=DTYPES[s.dtype], device="meta") for s in stage.inputs]
    with torch.inference_mode(), Largest() as mode:
        module(*inputs)
    return mode.found


@pytest.fixture(scope="module")
def stages() -> dict[str, Stage]:
    model = AuralSAM2.from_preset("hiera_base_plus", 1024)
    return {stage.name: stage for stage in build_stages(model, NUM_FRAMES, 0, "iou_occlusion", 1, for_cpu=True)}


@pytest.mark.parametrize("name", STAGE_NAMES)
def test_no_map_is_that_large(name: str, stages: dict[str, Stage]) -> None:
    count, operator, shape = largest(stages[name])
    assert 0 < count < LARGEST, (operator, shape)


def test_the_whole_pyramid_would_be(stages: dict[str, Stage]) -> None:
    """The walk sees what it looks for: without strips the first MLP is larger."""
    hiera: Any = stages["hiera"].module
    hiera.strips = 1
    count, _, shape = largest(stages["hiera"])
    assert count >= LARGEST, shape
    assert count == 65536 * 448, shape


def test_openvino_executes_no_scores(compact_build: Path) -> None:
    """Of the demo's hiera, whose global attention would be 4 heads of 256 x 256 scores."""
    import openvino

    path = compact_build / "models" / "hiera" / "1" / "model.onnx"
    compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    shapes = [
        tuple(operator.output(index).get_shape())
        for operator in compiled.get_runtime_model().get_ops()
        for index in range(operator.get_output_size())
    ]
    assert len(shapes) > 100
    image = 3 * 256 * 256
    assert not [shape for shape in shapes if shape[-2:] == (256, 256) and int(np.prod(shape)) > image]
