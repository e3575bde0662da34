"""The fusion as plugins: the graph that TensorRT would parse, computed with the kernels that it would launch.

Kernels run in Triton's interpreter, on the inputs that their nodes have in the graph, with the grids and integers that
their plugins compute from the shapes. What is not shown here: TensorRT itself, and the compiled code on a card.
"""

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("triton", reason="the kernels are written in Triton")

from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from export.engines.fusion_plugins import PluginUse, register_plugins, with_plugins
from export.errors import ExportError
from export.graphs.onnx_graph import to_onnx
from export.precision.stage_casts import cast_stage
from kernels import operators
from kernels.compilation import Compiled
from kernels.fusion.weights import FusionWeights
from kernels.launching.launch import Launch, Plan
from kernels.plugins import plugin_operators
from kernels.plugins.chains import Chain, PluginKernel
from kernels.plugins.symbolic_sizes import evaluate
from kernels.tuning import blocks_of
from model_repository.stage_runtime.engine import load_engine
from tests.kernels.plugins.plugin_stand_ins import Registry, pretend_to_compile

CAPABILITY = 89
WIDTH, INNER = 128, 64
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
ONNX_TYPES = {torch.float32: onnx.TensorProto.FLOAT, torch.float16: onnx.TensorProto.FLOAT16}
ONNX_TYPES[torch.bfloat16] = onnx.TensorProto.BFLOAT16
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


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Exported with the fusion kept."""
    folder = tmp_path_factory.mktemp("toys")
    for form in KERNELS:
        arguments = tuple(torch.from_numpy(value) for value in toy_inputs(form).values())
        ir.save(to_onnx(toy(form), arguments, ["FRAMES", "AUDIO"], ["OUT", "SOUND"]), folder / f"{form}.onnx")
    return {form: folder / f"{form}.onnx" for form in KERNELS}


@pytest.fixture(scope="module")
def fuser(with_functions: dict[str, Path]) -> Path:
    return with_functions["aural_fuser"]


@pytest.fixture
def written(toys: dict[str, Path], tmp_path: Path) -> Callable[..., tuple[Path, PluginUse]]:
    def write(form: str, precision: str = "float32", **options: Any) -> tuple[Path, PluginUse]:
        out = tmp_path / f"{form}-{precision}.onnx"
        options = {"compiler": pretend_to_compile} | options
        (use,) = with_plugins(toys[form], out, CAPABILITY, precision=precision, **options)
        return out, use

    return write


def integer_plan(form: str, num_frames: int, num_pixels: int, num_tokens: int, dtype: torch.dtype) -> Plan:
    known = "paper" if form == "paper" else "released"
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


def test_the_fuser_with_plugins_computes_what_it_does_natively(fuser: Path, tmp_path: Path) -> None:
    """All of it in float16, as an engine: three fusions, the blocks between them written out in standard operators."""
    out = tmp_path / "plugins.onnx"
    (use,) = with_plugins(
        fuser, out, CAPABILITY, precision="float16", cast=cast_fuser("float16"), compiler=pretend_to_compile
    )
    draw = np.random.default_rng(0)
    graph = onnx.load(fuser).graph
    inputs = {
        value.name: draw.standard_normal([dim.dim_value for dim in value.type.tensor_type.shape.dim], dtype=np.float32)
        for value in graph.input
    }
    wanted = load_engine("onnxruntime", fuser)(inputs)
    found, ran = run(out, use.chain, integer_plan("straddling", 2, 14 * 14, 2, torch.float16), inputs)
    assert use.count == 3
    assert sorted(ran) == sorted(3 * use.plugins)
    assert list(found) == [value.name for value in graph.output]
    assert max(errors(found, wanted).values()) < TOLERANCE["float16"]


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
def test_each_fusion_of_the_fuser_is_a_chain_of_its_kernels(precision: str, fuser: Path, tmp_path: Path) -> None:
    out = tmp_path / "plugins.onnx"
    cast = None if precision == "float32" else cast_fuser(precision)
    (use,) = with_plugins(fuser, out, CAPABILITY, precision=precision, cast=cast, compiler=pretend_to_compile)
    source, proto = onnx.load(fuser), onnx.load(out)
    for before, after in ((source.graph.input, proto.graph.input), (source.graph.output, proto.graph.output)):
        assert [value.name for value in before] == [value.name for value in after]
        assert list(map(kind_of, before)) == list(map(kind_of, after))
    assert not proto.functions
    assert [entry.domain for entry in proto.opset_import] == ["", "auralsam2"]
    assert not [node for node in proto.graph.node if node.op_type == "Identity"]
    nodes, types = plugin_nodes(proto), typed(proto)
    plan = integer_plan("straddling", 2, 14 * 14, 2, DTYPES[precision])
    for number in (1, 2, 3):
        chain = {node.op_type: node for node in nodes if node.name.startswith(f"fusion_{number}_")}
        held: dict[str, str] = {}
        for kernel, launch in zip(use.chain.kernels, plan.launches, strict=True):
            node = chain.pop(kernel.name)
            assert {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute} == {
                "plugin_namespace": b"auralsam2",
                "plugin_version": b"1",
                "aot": 1,
            }
            inputs = dict(zip(kernel.inputs, node.input, strict=True))
            outputs = dict(zip(kernel.outputs, node.output, strict=True))
            # A tensor of the chain is one tensor of the graph, whichever kernel reads it.
            assert {name: held[name] for name in inputs if name in held} == {n: inputs[n] for n in inputs if n in held}
            held |= inputs | outputs
            assert set(launch.inputs.values()) <= set(inputs)
            assert set(launch.outputs.values()) == set(outputs)
        assert not chain
        for name, tensor in held.items():
            buffer = plan.buffers[name]
            assert types[tensor] == (ONNX_TYPES[buffer.dtype], buffer.shape)
        weights = {name: tensor for name, tensor in held.items() if name in FusionWeights._fields}
        assert weights == {name: f"fuser.fusion_modules.{number - 1}.{name}_plugin" for name in FusionWeights._fields}


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_narrow_neighbours_hand_over_without_a_cast(precision: str, fuser: Path, tmp_path: Path) -> None:
    out = tmp_path / "plugins.onnx"
    with_plugins(fuser, out, CAPABILITY, precision=precision, cast=cast_fuser(precision), compiler=pretend_to_compile)
    proto = onnx.load(out)
    producers = {name: node for node in proto.graph.node for name in node.output}
    read = {name for node in plugin_nodes(proto) for name in node.input if name in producers}
    assert {producers[name].op_type for name in read if not producers[name].domain} == {"Add"}
    given = {name for node in plugin_nodes(proto) for name in node.output}
    casts = [node for node in proto.graph.node if node.op_type == "Cast"]
    assert not [node for node in casts if node.input[0] in producers and producers[node.input[0]].op_type == "Cast"]
    # Each of the two results is made float32 once.
    assert len([node for node in casts if node.input[0] in given]) == 6


def test_a_graph_of_another_narrow_type_is_cast_for_the_kernels(fuser: Path, tmp_path: Path) -> None:
    out = tmp_path / "plugins.onnx"
    (use,) = with_plugins(
        fuser, out, CAPABILITY, precision="float16", cast=cast_fuser("bfloat16"), compiler=pretend_to_compile
    )
    proto = onnx.load(out)
    types, kernels = typed(proto), {kernel.name: kernel for kernel in use.chain.kernels}
    for node in plugin_nodes(proto):
        wanted = [ONNX_TYPES[buffer.dtype] for buffer in kernels[node.op_type].inputs.values()]
        assert [types[name][0] for name in node.input] == wanted


@pytest.mark.parametrize("form", KERNELS)
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_graph_with_plugins_computes_what_pytorch_does(
    form: str, precision: str, written: Callable[..., tuple[Path, PluginUse]]
) -> None:
    out, use = written(form, precision)
    assert [kernel.function for kernel in use.chain.kernels] == KERNELS[form].split()
    inputs = toy_inputs(form)
    plan = integer_plan(form, 2, PIXELS[form], 3, DTYPES[precision])
    found, ran = run(out, use.chain, plan, inputs)
    assert sorted(ran) == sorted(use.plugins)
    assert max(errors(found, toy_outputs(form)).values()) < TOLERANCE[precision]


def swapped(node: onnx.NodeProto, first: int, second: int) -> None:
    node.input[first], node.input[second] = node.input[second], node.input[first]


@pytest.mark.parametrize(
    ("function", "alter"),
    [
        ("released_mix", lambda node: swapped(node, 4, 5)),
        ("finish_sound", lambda node: swapped(node, 4, 5)),
        ("project_sound", lambda node: node.input.__setitem__(0, "AUDIO_OF_ANOTHER")),
        ("straddling_sums", lambda node: node.input.__setitem__(0, "ROWS_OF_ANOTHER")),
    ],
)
def test_a_chain_that_is_wired_wrongly_computes_something_else(
    function: str,
    alter: Callable[[onnx.NodeProto], None],
    written: Callable[..., tuple[Path, PluginUse]],
) -> None:
    """The measure of the tests above finds one wrong tensor of the right shape."""
    out, use = written("straddling")
    proto = onnx.load(out)
    others = {"AUDIO_OF_ANOTHER": (3, WIDTH), "ROWS_OF_ANOTHER": (3, 2, INNER, PIXELS["straddling"])}
    draw = np.random.default_rng(1)
    for name, shape in others.items():
        value = draw.standard_normal(shape, dtype=np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    (node,) = (node for node in plugin_nodes(proto) if node.name == f"fusion_1_{function}")
    alter(node)
    onnx.save(proto, out)
    inputs = toy_inputs("straddling")
    found, _ = run(out, use.chain, integer_plan("straddling", 2, PIXELS["straddling"], 3, torch.float32), inputs)
    assert max(errors(found, toy_outputs("straddling")).values()) > 1e3 * TOLERANCE["float32"]


def test_a_float32_chain_needs_no_casts(written: Callable[..., tuple[Path, PluginUse]]) -> None:
    nodes = onnx.load(written("straddling")[0]).graph.node
    assert not [node for node in nodes if node.op_type in ("Cast", "Identity")]


def test_two_graphs_of_one_source_are_the_same_bytes(written: Callable[..., tuple[Path, PluginUse]]) -> None:
    out, use = written("paper", "float16")
    first = out.read_bytes()
    again, same = written("paper", "float16")
    assert again.read_bytes() == first
    assert same == use


def test_what_a_manifest_says(written: Callable[..., tuple[Path, PluginUse]]) -> None:
    _, use = written("paper", "float16")
    record = json.loads(json.dumps(use.as_record()))
    assert record == {
        "operator": "AudioVisualFusion",
        "plugins": [kernel.name for kernel in use.chain.kernels],
        "capability": CAPABILITY,
        "dtype": "float16",
        "shared_bytes": [1024 * launch.num_warps for launch in integer_plan("paper", 1, 16, 1, torch.float16).launches],
        "count": 1,
    }
    assert all(len(name) < 128 for name in use.plugins)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    double = Registry()
    monkeypatch.setitem(sys.modules, "tensorrt", double.package)
    monkeypatch.setitem(sys.modules, "tensorrt.plugin", double.plugin)
    return double


def test_every_plugin_of_the_graph_is_registered(
    registry: Registry, written: Callable[..., tuple[Path, PluginUse]]
) -> None:
    out, use = written("straddling", "float16")
    register_plugins([use])
    register_plugins([use])
    for node in plugin_nodes(onnx.load(out)):
        attributes = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
        identity = f"{attributes['plugin_namespace'].decode()}::{node.op_type}"
        assert identity in registry.described
        assert identity in registry.implemented
    assert len(registry.described) == len(use.plugins)


def test_without_a_tensorrt_that_takes_plugins_native_operators_are_named(
    registry: Registry, written: Callable[..., tuple[Path, PluginUse]], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, use = written("paper")
    registry.package.__version__ = "10.8.0.43"
    with pytest.raises(
        ExportError, match=r"TensorRT 10\.8\.0\.43 reads no compiled .* 10\.9 or newer.*--fusion native"
    ):
        register_plugins([use])
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(ExportError, match=r"plugins need the tensorrt package.*--fusion native"):
        register_plugins([use])


def large(plan: Plan, launch: Launch, capability: int, ptx_version: int) -> Compiled:
    compiled = pretend_to_compile(plan, launch, capability, ptx_version)
    return dataclasses.replace(compiled, shared_bytes=64_000 if launch.name == "released_mix" else 1024)


def test_kernels_that_tensorrt_may_not_launch_are_refused_unless_asked_for(
    registry: Registry, written: Callable[..., tuple[Path, PluginUse]]
) -> None:
    message = r"straddling\.onnx: .*capability 89: released_mix needs 64000 bytes of shared memory.*--fusion native"
    with pytest.raises(ExportError, match=message):
        written("straddling", compiler=large)
    _, use = written("straddling", compiler=large, large_shared_memory=True)
    assert max(use.shared_bytes) == 64_000
    register_plugins([use])
    assert len(registry.described) == len(use.plugins)


def test_block_sizes_of_the_card_itself_come_first(
    written: Callable[..., tuple[Path, PluginUse]], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, int]] = []

    def blocks(dtype: torch.dtype, gpu: str, capability: int) -> Any:
        asked.append((gpu, capability))
        return blocks_of(dtype, gpu, capability)

    monkeypatch.setattr("export.engines.fusion_plugins.blocks_of", blocks)
    written("paper")
    written("paper", gpu="NVIDIA L4")
    assert asked == [("sm_89", 89), ("NVIDIA L4", 89)]


def altered(source: Path, out: Path, alter: Callable[[onnx.ModelProto], None]) -> Path:
    proto = onnx.load(source)
    alter(proto)
    onnx.save(proto, out)
    return out


def compute_a_weight(proto: onnx.ModelProto) -> None:
    (node,) = plugin_nodes(proto)
    proto.graph.node.insert(0, onnx.helper.make_node("Neg", [node.input[8]], ["computed"]))
    proto.graph.value_info.append(onnx.helper.make_tensor_value_info("computed", onnx.TensorProto.FLOAT, [WIDTH]))
    node = next(node for node in proto.graph.node if node.domain)
    node.input[8] = "computed"


def open_frames(proto: onnx.ModelProto) -> None:
    for value in proto.graph.value_info:
        if value.name == next(node for node in proto.graph.node if node.domain).input[0]:
            value.type.tensor_type.shape.dim[0].dim_param = "T"


@pytest.mark.parametrize(
    ("alter", "message"),
    [
        (compute_a_weight, "frame_norm is computed; plugins take stored weights"),
        (open_frames, "visual is no float32 tensor of fixed shape"),
    ],
)
def test_fusions_that_chains_cannot_stand_for(
    alter: Callable[[onnx.ModelProto], None], message: str, toys: dict[str, Path], tmp_path: Path
) -> None:
    source = altered(toys["paper"], tmp_path / "altered.onnx", alter)
    with pytest.raises(ExportError, match=rf"altered\.onnx: node_audio_visual_fusion\w*: {message}"):
        with_plugins(source, tmp_path / "out.onnx", CAPABILITY, compiler=pretend_to_compile)
    assert not (tmp_path / "out.onnx").exists()


def test_what_is_asked_for_must_exist(
    toys: dict[str, Path], written: Callable[..., tuple[Path, PluginUse]], tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=r"precision 'int8'; plugins compute in float32, float16, bfloat16"):
        written("paper", "int8")
    with pytest.raises(ExportError, match=r"capability 75: no block sizes for sm_75.*--fusion native"):
        with_plugins(toys["paper"], tmp_path / "out.onnx", 75, compiler=pretend_to_compile)
    out, _ = written("paper")
    with pytest.raises(ExportError, match="the graph has no AudioVisualFusion; export the stage with its operators"):
        with_plugins(out, tmp_path / "again.onnx", CAPABILITY, compiler=pretend_to_compile)


def test_the_kernels_compile_for_the_card_that_is_named(
    toys: dict[str, Path], repository_root: Path, tmp_path: Path
) -> None:
    """sm_90, where one kernel of this chain has instructions of that card alone, which TensorRT would refuse."""
    code = f"""
import json
from pathlib import Path
from export.engines.fusion_plugins import with_plugins
from kernels.compilation import assemble
from kernels.plugins.ptx import parameters
(use,) = with_plugins(Path({str(toys["straddling"])!r}), Path({str(tmp_path / "out.onnx")!r}), 90)
print(json.dumps([
    dict(name=kernel.name, ptx=kernel.ptx, kinds=[line.split()[1] for line in parameters(kernel.ptx)],
         inputs=len(kernel.inputs), integers=len(kernel.integers), outputs=len(kernel.outputs),
         shared=kernel.shared_bytes, assembled=assemble(kernel.ptx, 90))
    for kernel in use.chain.kernels
]))
"""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = str(repository_root)
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    kernels = json.loads(result.stdout)
    assert {node.op_type for node in plugin_nodes(onnx.load(tmp_path / "out.onnx"))} == {k["name"] for k in kernels}
    for kernel in kernels:
        pointers, integers = [".u64"] * kernel["inputs"], [".u32"] * kernel["integers"]
        assert kernel["kinds"] == [*pointers, *integers, *[".u64"] * kernel["outputs"]]
        assert kernel["shared"] <= 48 * 1024
        assert kernel["assembled"]["spill_loads"] == 0
    targets = [next(line for line in kernel["ptx"].splitlines() if line.startswith(".target")) for kernel in kernels]
    assert targets == [".target sm_90", ".target sm_80", *[".target sm_90"] * 5]


@pytest.fixture(scope="module")
def rtx() -> Any:
    return pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")


def test_nvidia_s_parser_looks_for_plugins_by_what_the_nodes_say(
    rtx: Any, written: Callable[..., tuple[Path, PluginUse]]
) -> None:
    """TensorRT-RTX has no plugins of our kind: its parser refuses these nodes, and no other, by name and namespace."""
    messages: list[str] = []

    class Log(rtx.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            rtx.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            messages.append(message)

    out, use = written("straddling", "float16")
    log = Log()
    builder = rtx.Builder(log)
    network = builder.create_network(1 << int(rtx.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = rtx.OnnxParser(network, log)
    assert not parser.parse_from_file(str(out))
    refused = [parser.get_error(index) for index in range(parser.num_errors)]
    assert {error.node_operator() for error in refused} <= set(use.plugins)
    assert all("Plugin not found" in error.desc() for error in refused)
    looked_for = [message for message in messages if message.startswith("Checking if node can be treated as plugin")]
    for name in {error.node_operator() for error in refused}:
        assert any(f"{name}, plugin_version: 1, plugin_namespace: auralsam2" in message for message in looked_for)
    assert refused
