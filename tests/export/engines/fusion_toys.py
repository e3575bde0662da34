"""Small graphs around a fusion, and the run of a graph with plugins as TensorRT would run it.

Kernels run in Triton's interpreter, on the inputs that their nodes have in the graph, with the grids and integers that
their plugins compute from the shapes.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("triton", reason="the kernels are written in Triton")

from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from export.precision.stage_casts import cast_stage
from kernels import operators
from kernels.fusion.weights import FusionWeights
from kernels.launching.launch import Launch, Plan
from kernels.plugins import plugin_operators
from kernels.plugins.chains import Chain, PluginKernel
from kernels.plugins.symbolic_sizes import evaluate
from kernels.tuning import blocks_of

CAPABILITY = 89
WIDTH, INNER = 128, 64
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
ONNX_TYPES = {
    torch.float32: onnx.TensorProto.FLOAT,
    torch.float16: onnx.TensorProto.FLOAT16,
    torch.bfloat16: onnx.TensorProto.BFLOAT16,
}
# Of the largest element. In float32 products are exact here but for their order; float16 keeps 11 bits.
TOLERANCE = {"float32": 2e-6, "float16": 3e-3}
KERNELS = {
    "straddling": "project_sound project_visual straddling_sums mixing_weights released_mix add_up_sound finish_sound",
    "released": "project_sound released_sums mixing_weights released_mix add_up_sound finish_sound",
    "paper": "project_sound paper_tokens paper_mix paper_sums paper_sound finish_sound",
}
PIXELS = {"straddling": 16, "released": 64, "paper": 16}
Array = npt.NDArray[Any]


class Toy(nn.Module):
    """A fusion between two products. Sound comes from an input as it is, and leaves as an output as it is."""

    def __init__(self, form: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.form = form
        self.before, self.after = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        matrices = {"visual_in": (3 * INNER, WIDTH), "sound_in": (WIDTH + 3 * INNER, WIDTH)}
        matrices |= {"frame_out": (WIDTH, INNER), "sound_out": (WIDTH, INNER)}
        for name in FusionWeights._fields:
            matrix = name.removesuffix("_bias")
            shape = matrices.get(name, matrices.get(matrix, (WIDTH,))[:1])
            self.register_buffer(name, torch.randn(shape) / (8.0 if len(shape) == 2 else 1.0))

    def forward(self, frames: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        weights = [self.get_buffer(name) for name in FusionWeights._fields]
        frame, sound = operators.audio_visual_fusion(self.before(frames), audio, *weights, self.form)
        return self.after(frame), sound


def toy_inputs(form: str) -> dict[str, Array]:
    """Two frames, three tokens: another number than frames, as with text."""
    draw = np.random.default_rng(0)
    shapes = {"FRAMES": (2, PIXELS[form], WIDTH), "AUDIO": (3, WIDTH)}
    return {name: draw.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}


def toy(form: str) -> nn.Module:
    return Toy("paper" if form == "paper" else "released").eval()


def toy_outputs(form: str) -> dict[str, Array]:
    """In PyTorch, float32, without a kernel."""
    with torch.no_grad():
        outputs = toy(form)(*(torch.from_numpy(value) for value in toy_inputs(form).values()))
    return dict(zip(("OUT", "SOUND"), (output.numpy() for output in outputs), strict=True))


def integer_plan(form: str, num_frames: int, num_pixels: int, num_tokens: int, dtype: torch.dtype) -> Plan:
    known: Literal["released", "paper"] = "paper" if form == "paper" else "released"
    fused = plugin_operators.audio_visual_fusion(
        known, num_pixels, WIDTH, INNER, blocks_of(dtype, f"sm_{CAPABILITY}", CAPABILITY)
    )
    sizes = {"T": num_frames, "M": num_tokens}
    return fused.plan(
        {
            name: tuple(sizes[axis] if isinstance(axis, str) else axis for axis in shape)
            for name, shape in fused.inputs.items()
        },
        dtype,
    )


def launched(kernel: PluginKernel, launch: Launch, arrays: tuple[Array, ...]) -> tuple[Array, ...]:
    """What TensorRT does with a plugin, but that the kernel's code is interpreted: it knows the node's inputs only."""
    tensors = [torch.from_numpy(np.array(array)) for array in arrays]
    known = kernel.values([tuple(tensor.shape) for tensor in tensors])
    for buffer, tensor in zip(kernel.inputs.values(), tensors, strict=True):
        assert tensor.dtype == buffer.dtype
        assert tuple(tensor.shape) == tuple(evaluate(axis, known) for axis in buffer.shape)
    outputs = [
        torch.full([evaluate(axis, known) for axis in buffer.shape], float("nan"), dtype=buffer.dtype)
        for buffer in kernel.outputs.values()
    ]
    declared = list(launch.kernel.arg_names)
    arguments = {name: tensor for name, tensor in zip(kernel.parameters, tensors, strict=True) if name in declared}
    integers = [evaluate(size, known) for size in kernel.integers]
    for group, values in ((launch.integers, integers), (launch.outputs, outputs)):
        arguments |= dict(zip([name for name in declared if name in group], values, strict=True))
    grid = tuple(evaluate(size, known) for size in kernel.grid)
    launch.kernel[grid](**arguments, **launch.constants, num_warps=launch.num_warps, num_stages=launch.num_stages)
    return tuple(output.numpy() for output in outputs)


def run(path: Path, chain: Chain, plan: Plan, inputs: Mapping[str, Array]) -> tuple[dict[str, Array], list[str]]:
    """The graph's outputs by name, and the plugins that were launched, in order."""
    ran: list[str] = []

    def operator(kernel: PluginKernel, launch: Launch) -> type[OpRun]:
        def compute(self: OpRun, *arrays: Array, **attributes: Any) -> tuple[Array, ...]:
            ran.append(kernel.name)
            return launched(kernel, launch, arrays)

        return type(kernel.name, (OpRun,), {"op_domain": "auralsam2", "_run": compute})

    new = [operator(kernel, launch) for kernel, launch in zip(chain.kernels, plan.launches, strict=True)]
    evaluator = ReferenceEvaluator(str(path), new_ops=new)
    return dict(zip(evaluator.output_names, evaluator.run(None, dict(inputs)), strict=True)), ran


def errors(found: Mapping[str, Array], wanted: Mapping[str, Array]) -> dict[str, float]:
    """Of each output: the largest error as a share of the largest element; infinite where one is NaN."""
    shares = {name: float(np.abs(found[name] - truth).max() / np.abs(truth).max()) for name, truth in wanted.items()}
    return {name: share if np.isfinite(share) else float("inf") for name, share in shares.items()}


def plugin_nodes(proto: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for node in proto.graph.node if node.domain]


def kind_of(value: onnx.ValueInfoProto) -> tuple[int, tuple[int, ...]]:
    kind = value.type.tensor_type
    return kind.elem_type, tuple(dim.dim_value for dim in kind.shape.dim)


def typed(proto: onnx.ModelProto) -> dict[str, tuple[int, tuple[int, ...]]]:
    """Element type and shape of every tensor that the file gives them for."""
    graph = proto.graph
    found = {tensor.name: (tensor.data_type, tuple(tensor.dims)) for tensor in graph.initializer}
    return found | {value.name: kind_of(value) for value in (*graph.input, *graph.output, *graph.value_info)}


def cast_fuser(precision: str) -> Callable[[Path, Path], object]:
    return lambda source, out: cast_stage("aural_fuser", source, out, precision)
