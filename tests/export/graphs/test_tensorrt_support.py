"""What TensorRT asks of a graph, held on the files that the export writes, without TensorRT: operators that its parser
knows in the types that it computes, shapes that are known, no integers at run time, and no constant twice.

The networks are the compact one at 256 px with five frames and hiera_tiny at 512 px with two, in the graphs for a GPU;
the compact hiera, which takes one frame on a CPU, in that form too.
"""

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from auralsam2.stages.clip_stages import Stage
from auralsam2_client.contract import STAGE_NAMES
from export.graphs.onnx_graph import DTYPES
from tests.builds import graph_of
from tests.export.graphs.tensorrt_rules import faults, infer, not_floats
from tests.export.graphs_on_gpu import OnGpu, stages_of

SHARED_FROM_BYTES = 64
# Where a matrix is this large, its transpose beside it is a weight kept twice.
TRANSPOSED_FROM = 4096
LARGEST_FILE_OF_WEIGHTS = 1.3


@dataclasses.dataclass(frozen=True)
class Exported:
    """A graph as it lies on disk, what it was made of, and what shape inference says of it."""

    stage: Stage
    path: Path
    model: onnx.ModelProto
    kinds: dict[str, str]
    """Type of every value, as TensorRT names it; of constants too."""
    shapes: dict[str, tuple[int | None, ...] | None]
    """Of every value; None where a dimension, or the rank, is not known."""

    @property
    def constants(self) -> set[str]:
        return {tensor.name for tensor in self.model.graph.initializer}


def read(stage: Stage, path: Path) -> Exported:
    model = onnx.load(path)
    return Exported(stage, path, model, *infer(model))


@pytest.fixture(scope="module")
def compact(compact_on_gpu: OnGpu, compact_build: Path) -> dict[str, Exported]:
    """Hiera in the CPU's form as well."""
    (here,) = (stage for stage in stages_of(compact_on_gpu.settings, on_gpu=False) if stage.name == "hiera")
    return {
        "hiera-cpu": read(here, graph_of(compact_build, "hiera")),
        **{stage.name: read(stage, path) for stage, path in compact_on_gpu.graphs},
    }


@pytest.fixture(scope="module")
def tiny(tiny_on_gpu: OnGpu) -> dict[str, Exported]:
    return {stage.name: read(stage, path) for stage, path in tiny_on_gpu.graphs}


GRAPHS = (*(f"compact-{name}" for name in (*STAGE_NAMES, "hiera-cpu")), *(f"tiny-{name}" for name in STAGE_NAMES))


@pytest.fixture(params=GRAPHS)
def exported(request: pytest.FixtureRequest) -> Exported:
    network, name = request.param.split("-", 1)
    return request.getfixturevalue(network)[name]


def test_operators_are_standard_and_written_out(exported: Exported) -> None:
    assert not exported.model.functions
    assert {node.domain for node in exported.model.graph.node} == {""}
    (opset,) = exported.model.opset_import
    assert 9 <= opset.version <= 24


def test_operators_are_supported_with_these_types_and_attributes(exported: Exported) -> None:
    assert faults(exported.model, exported.kinds) == []


def test_every_shape_is_known(exported: Exported) -> None:
    computed = [name for node in exported.model.graph.node for name in node.output if name]
    assert len(computed) > 20
    unknown = [name for name in computed if exported.shapes.get(name) is None or None in exported.shapes[name]]
    assert unknown == []
    assert all(min(exported.shapes[name], default=1) > 0 for name in computed)


def test_nothing_but_floats_is_computed(exported: Exported) -> None:
    """No index, no shape and no mask of bits: bytes become floats at once, and a comparison chooses, no more."""
    assert not_floats(exported.model, exported.kinds) == []


def test_no_constant_is_kept_twice(exported: Exported) -> None:
    assert [node.name for node in exported.model.graph.node if node.op_type == "Constant"] == []
    tensors = [tensor for tensor in exported.model.graph.initializer if tensor_bytes(tensor) > SHARED_FROM_BYTES]
    same = Counter((tensor.data_type, tuple(tensor.dims), tensor.raw_data) for tensor in tensors)
    assert len(tensors) > 10
    assert all(tensor.raw_data for tensor in tensors)
    assert [key[:2] for key, count in same.items() if count > 1] == []


def tensor_bytes(tensor: onnx.TensorProto) -> int:
    return numpy_helper.to_array(tensor).nbytes


def test_no_matrix_is_kept_beside_its_transpose(exported: Exported) -> None:
    matrices = [numpy_helper.to_array(each) for each in exported.model.graph.initializer if len(each.dims) == 2]
    matrices = [each for each in matrices if each.size >= TRANSPOSED_FROM]
    # Biases laid out as a matrix may be one number throughout.
    kept = {each.tobytes() for each in matrices if each.min() != each.max()}
    assert len(kept) > 2 or exported.stage.name == "vggish"
    turned = [each.shape for each in matrices if each.T.tobytes() in kept and each.min() != each.max()]
    assert turned == []


class Reads(TorchDispatchMode):
    """Notes the storage of every tensor that an operator reads."""

    def __init__(self) -> None:
        super().__init__()
        self.storages: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for each in tree_leaves((args, kwargs)):
            if isinstance(each, Tensor):
                self.storages.add(each.untyped_storage().data_ptr())
        return func(*args, **(kwargs or {}))


def weights_bytes(stage: Stage) -> int:
    """Bytes of the distinct parameters and buffers that a call of the stage's module reads."""
    arguments = [torch.zeros(stage.graph_shape(spec), dtype=DTYPES[spec.dtype]) for spec in stage.inputs]
    with torch.no_grad(), Reads() as reads:
        stage.module.eval()(*arguments)
    kept = {each.untyped_storage().data_ptr(): each for each in (*stage.module.parameters(), *stage.module.buffers())}
    return sum(each.numel() * each.element_size() for place, each in kept.items() if place in reads.storages)


def test_the_file_is_the_weights_and_little_more(exported: Exported) -> None:
    weights = weights_bytes(exported.stage)
    assert weights > 1e6
    assert 0.95 * weights < exported.path.stat().st_size < LARGEST_FILE_OF_WEIGHTS * weights


def test_weights_count_once_and_only_where_they_are_read(compact: dict[str, Exported]) -> None:
    """The decoder's stage holds all of SAM2; the image encoder and the unused point embeddings are not its weights."""
    stage = compact["sam2_decoder"].stage
    everything = sum(
        each.numel() * each.element_size() for each in (*stage.module.parameters(), *stage.module.buffers())
    )
    weights = weights_bytes(stage)
    image_encoder = sum(
        each.numel() * each.element_size() for each in stage.module.get_submodule("sam.image_encoder").parameters()
    )
    assert weights < everything - image_encoder
    assert weights > 0.5 * (everything - image_encoder)
