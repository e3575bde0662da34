"""Casting a graph to float16 or bfloat16: which nodes take the type, and what it costs the network's outputs."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from auralsam2_client.contract import STAGE_NAMES
from export.engines.tensorrt import build_engine
from export.engines.tensorrt_builder import load_builder
from export.errors import ExportError
from export.graphs.chain import run_clip
from export.graphs.stages import Stage
from export.precision.emulation import emulate
from export.precision.half_precision import cast_graph
from export.precision.largest_values import largest_values
from export.precision.stage_casts import cast_stage
from export.precision.type_rules import LARGEST
from model_repository.stage_runtime.engine import Array, load_engine
from tests.export.overflow import near_overflow

FLOAT, HALF, BFLOAT = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16
TYPES = {"float16": HALF, "bfloat16": BFLOAT}
# 2^-11 and 2^-8 a rounding; tens of layers add theirs, as independent errors do.
BUDGET = {"float16": 2e-3, "bfloat16": 1.6e-2}
MANY_VALUES = 100
both = pytest.mark.parametrize("precision", list(TYPES))
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a graph of X [2, 8] -> the last node's output, all float32, with W [8, 8] and further constants."""

    def make(*nodes: NodeProto, **constants: Any) -> Path:
        values = {"W": np.linspace(-1, 1, 64).reshape(8, 8), "SCALE": np.ones(8), **constants}
        used = {name for node in nodes for name in node.input}
        weights = [numpy_helper.from_array(np.asarray(v, np.float32), k) for k, v in values.items() if k in used]
        given = [helper.make_tensor_value_info("X", FLOAT, [2, 8])]
        wanted = [helper.make_tensor_value_info(nodes[-1].output[0], FLOAT, None)]
        graph = helper.make_graph(list(nodes), "graph", given, wanted, weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
        path = tmp_path / "graph.onnx"
        onnx.save(onnx.shape_inference.infer_shapes(model), path)
        return path

    return make


def node(op_type: str, inputs: str, output: str, **attributes: Any) -> NodeProto:
    return helper.make_node(op_type, inputs.split(), [output], name=f"node_{output}", **attributes)


def types(path: Path) -> dict[str, int]:
    """The element type of every tensor in a file, as ONNX infers it."""
    graph = onnx.shape_inference.infer_shapes(onnx.load(path), strict_mode=True).graph
    values = {v.name: v.type.tensor_type.elem_type for v in (*graph.input, *graph.value_info, *graph.output)}
    return values | {tensor.name: tensor.data_type for tensor in graph.initializer}


def computed_in(path: Path) -> dict[str, int]:
    """For each node that is no cast, by its name: the type of its first float input."""
    known, graph = types(path), onnx.load(path).graph
    floats = (FLOAT, HALF, BFLOAT)
    return {
        n.name: next((known[i] for i in n.input if known.get(i) in floats), 0)
        for n in graph.node
        if n.op_type != "Cast"
    }


@both
def test_products_are_narrow_and_the_contract_stays_float32(precision: str, write: Write, tmp_path: Path) -> None:
    source = write(node("MatMul", "X W", "A"), node("Relu", "A", "B"), node("MatMul", "B W", "Y"))
    record = cast_graph(source, tmp_path / "cast.onnx", precision)
    found = types(tmp_path / "cast.onnx")
    assert set(computed_in(tmp_path / "cast.onnx").values()) == {TYPES[precision]}
    assert (found["X"], found["Y"]) == (FLOAT, FLOAT)
    # One for the input, one for the output; the weight is stored once, narrow.
    assert (record.narrow, record.wide, record.casts) == (3, 0, 2)
    assert [tensor.data_type for tensor in onnx.load(tmp_path / "cast.onnx").graph.initializer] == [TYPES[precision]]


@both
def test_norms_and_softmax_compute_in_float32(precision: str, write: Write, tmp_path: Path) -> None:
    source = write(
        node("MatMul", "X W", "A"),
        node("LayerNormalization", "A SCALE", "B"),
        node("Relu", "B", "C"),
        node("Softmax", "C", "D"),
        node("MatMul", "D W", "Y"),
    )
    cast_graph(source, tmp_path / "cast.onnx", precision)
    found = computed_in(tmp_path / "cast.onnx")
    narrow = TYPES[precision]
    assert found == {"node_A": narrow, "node_B": FLOAT, "node_C": narrow, "node_D": FLOAT, "node_Y": narrow}


def test_a_norm_written_out_does_not_divide_by_zero(write: Write, tmp_path: Path) -> None:
    """Var + 1e-12 is 0 in float16: squares, mean, root and division stay float32."""
    source = write(
        node("MatMul", "X W", "A"),
        node("Pow", "A TWO", "B"),
        node("ReduceMean", "B", "C", keepdims=1),
        node("Add", "C EPSILON", "D"),
        node("Sqrt", "D", "E"),
        node("Div", "A E", "Y"),
        TWO=2,
        EPSILON=1e-12,
        W=np.full((8, 8), 1e-5),
    )
    cast_graph(source, tmp_path / "cast.onnx", "float16")
    found = computed_in(tmp_path / "cast.onnx")
    assert [name for name, kind in found.items() if kind == HALF] == ["node_A"]
    x = np.full((2, 8), 0.01, np.float32)
    engine = load_engine("onnxruntime", emulate(tmp_path / "cast.onnx", tmp_path / "emulated.onnx"))
    np.testing.assert_allclose(
        engine({"X": x})["Y"], load_engine("onnxruntime", source)({"X": x})["Y"], rtol=0.05, atol=0
    )


def test_what_a_logarithm_reads_stays_float32(write: Write, tmp_path: Path) -> None:
    source = write(
        node("MatMul", "X W", "A"), node("Mul", "A A", "B"), node("Log", "B", "C"), node("MatMul", "C W", "Y")
    )
    cast_graph(source, tmp_path / "cast.onnx", "float16")
    assert computed_in(tmp_path / "cast.onnx") == {
        "node_A": FLOAT,
        "node_B": FLOAT,
        "node_C": FLOAT,
        "node_Y": HALF,
    }


def test_a_constant_beyond_the_range_keeps_its_node(write: Write, tmp_path: Path) -> None:
    source = write(node("MatMul", "X W", "A"), node("Add", "A FAR", "B"), node("Relu", "B", "Y"), FAR=-1e5)
    cast_graph(source, tmp_path / "float16.onnx", "float16")
    assert computed_in(tmp_path / "float16.onnx")["node_B"] == FLOAT
    cast_graph(source, tmp_path / "bfloat16.onnx", "bfloat16")
    assert computed_in(tmp_path / "bfloat16.onnx")["node_B"] == BFLOAT


def test_a_transposed_convolution_is_narrow_in_float16_only(write: Write, tmp_path: Path) -> None:
    source = write(
        node("Reshape", "X SHAPE", "A"),
        node("ConvTranspose", "A KERNEL", "B", strides=[2, 2]),
        node("Relu", "B", "Y"),
        KERNEL=np.ones((1, 2, 2, 2)),
    )
    model = onnx.load(source)
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 1, 4, 4]), "SHAPE"))
    onnx.save(onnx.shape_inference.infer_shapes(model), source)
    for precision, kind in (("float16", HALF), ("bfloat16", FLOAT)):
        cast_graph(source, tmp_path / "cast.onnx", precision)
        found = computed_in(tmp_path / "cast.onnx")
        assert (found["node_B"], found["node_Y"]) == (kind, TYPES[precision])


@pytest.mark.parametrize(
    ("keep", "wide"),
    [
        (["node_B"], {"node_B"}),
        # What makes and what reads the tensor.
        (["B"], {"node_B", "node_Y"}),
        (["node_[AB]"], {"node_A", "node_B"}),
        (["X"], {"node_A"}),
    ],
)
def test_named_nodes_and_tensors_stay_float32(keep: list[str], wide: set[str], write: Write, tmp_path: Path) -> None:
    source = write(node("MatMul", "X W", "A"), node("MatMul", "A W", "B"), node("MatMul", "B W", "Y"))
    cast_graph(source, tmp_path / "cast.onnx", "float16", keep=keep)
    found = computed_in(tmp_path / "cast.onnx")
    assert {name for name, kind in found.items() if kind == FLOAT} == wide


@pytest.mark.parametrize(
    ("keep", "wide"),
    [
        (["BIAS"], {"node_A", "node_B"}),
        (["SCALE"], {"node_D"}),
        (["LAST"], {"node_E"}),
    ],
)
def test_a_weight_keeps_what_reads_it(keep: list[str], wide: set[str], write: Write, tmp_path: Path) -> None:
    """A bias its product as well: the matrix is transposed when it is exported and has lost its name."""
    source = write(
        node("MatMul", "X W", "A"),
        node("Add", "A BIAS", "B"),
        node("MatMul", "B W", "C"),
        node("Mul", "C SCALE", "D"),
        node("MatMul", "D LAST", "E"),
        node("Relu", "E", "Y"),
        BIAS=np.ones(8),
        LAST=np.ones((8, 8)),
    )
    cast_graph(source, tmp_path / "cast.onnx", "float16", keep=keep)
    found = computed_in(tmp_path / "cast.onnx")
    assert {name for name, kind in found.items() if kind == FLOAT} - {"node_Y"} == wide


@pytest.mark.parametrize(("keep", "kind"), [([], HALF), (["node_A"], FLOAT)])
def test_a_product_of_two_computed_tensors_follows(keep: list[str], kind: int, write: Write, tmp_path: Path) -> None:
    """Queries and keys of an attention that is kept: nobody names the product of the two."""
    source = write(node("MatMul", "X W", "A"), node("Transpose", "A", "B", perm=[1, 0]), node("MatMul", "A B", "Y"))
    cast_graph(source, tmp_path / "cast.onnx", "float16", keep=keep)
    assert computed_in(tmp_path / "cast.onnx")["node_Y"] == kind


def test_the_last_products_of_an_output_stay_float32(write: Write, tmp_path: Path) -> None:
    source = write(node("MatMul", "X W", "A"), node("MatMul", "A W", "B"), node("Relu", "B", "Y"))
    cast_graph(source, tmp_path / "cast.onnx", "float16", wide_outputs=["Y"])
    assert computed_in(tmp_path / "cast.onnx") == {"node_A": HALF, "node_B": FLOAT, "node_Y": FLOAT}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"precision": "int8"}, "precision 'int8'; a graph is cast to float16 or bfloat16"),
        ({"keep": ["nothing*"]}, r"graph\.onnx: keep 'nothing\*' names no node, no tensor and no weight"),
        ({"wide_outputs": ["Z"]}, r"'Z' is no output; the graph has Y\."),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str, write: Write, tmp_path: Path) -> None:
    source = write(node("MatMul", "X W", "Y"))
    with pytest.raises(ExportError, match=message):
        cast_graph(source, tmp_path / "cast.onnx", **{"precision": "float16", **arguments})
    assert not (tmp_path / "cast.onnx").exists()


def test_a_graph_that_is_cast_already(write: Write, tmp_path: Path) -> None:
    cast_graph(write(node("MatMul", "X W", "Y")), tmp_path / "cast.onnx", "float16")
    with pytest.raises(ExportError, match="is FLOAT16; only float32 graphs are cast"):
        cast_graph(tmp_path / "cast.onnx", tmp_path / "again.onnx", "bfloat16")


def test_a_fused_operator_is_refused(write: Write, tmp_path: Path) -> None:
    source = write(node("MatMul", "X W", "A"), node("Relu", "A", "Y"))
    model = onnx.load(source)
    model.graph.node[1].op_type, model.graph.node[1].domain = "MemoryAttention", "auralsam2"
    model.opset_import.append(helper.make_opsetid("auralsam2", 1))
    onnx.save(model, source)
    with pytest.raises(ExportError, match="fused operators"):
        cast_graph(source, tmp_path / "cast.onnx", "float16")


@both
def test_emulation_rounds_every_narrow_tensor(precision: str, write: Write, tmp_path: Path) -> None:
    source = write(node("MatMul", "X W", "A"), node("MatMul", "A W", "Y"))
    cast_graph(source, tmp_path / "cast.onnx", precision)
    engine = load_engine("onnxruntime", emulate(tmp_path / "cast.onnx", tmp_path / "emulated.onnx"))
    kind = helper.tensor_dtype_to_np_dtype(TYPES[precision])

    def narrow(value: Array) -> Array:
        return value.astype(kind).astype(np.float32)

    x = np.random.default_rng(5).normal(size=(2, 8)).astype(np.float32)
    w = narrow(np.linspace(-1, 1, 64, dtype=np.float32).reshape(8, 8))
    wanted = narrow(narrow(narrow(x) @ w) @ w)
    # Sums in another order may round to the neighbour.
    np.testing.assert_allclose(engine({"X": x})["Y"], wanted, rtol=2 ** (-10 if precision == "float16" else -7))
    assert np.abs(wanted - (x @ w) @ w).max() > 0


def test_the_largest_values_name_what_would_overflow(write: Write) -> None:
    source = write(node("MatMul", "X W", "A"), node("Mul", "A FACTOR", "B"), node("Relu", "B", "Y"), FACTOR=-1e4)
    x = np.ones((2, 8), np.float32)
    x[:, 1:] = 0
    largest = largest_values(source, {"X": x})
    assert largest == pytest.approx({"A": 1.0, "B": 1e4, "Y": 1e4})
    assert largest_values(source, {"X": x}, {"X": -3 * x}, {"X": x}) == pytest.approx({"A": 3.0, "B": 3e4, "Y": 1e4})
    assert near_overflow({"A": 1.0, "B": 16000.0, "C": 17000.0, "D": np.inf, "E": np.nan}, "float16") == ("C", "D", "E")
    assert near_overflow({"C": 17000.0}, "bfloat16") == ()
    assert float(np.finfo(np.float16).max) == LARGEST["float16"]


@dataclasses.dataclass(frozen=True)
class Cast:
    """The small build's graphs in one precision, and the tensors that crossed between the float32 ones."""

    precision: str
    graphs: dict[str, Path]
    wire: dict[str, Array]


@pytest.fixture(scope="module", params=list(TYPES))
def cast(
    request: pytest.FixtureRequest,
    plain_graphs: dict[str, Path],
    plain_stages: tuple[Stage, ...],
    small_clip: dict[str, Array],
    tmp_path_factory: pytest.TempPathFactory,
) -> Cast:
    """As an export casts."""
    folder, precision = tmp_path_factory.mktemp(request.param), request.param
    found = Cast(precision, {}, dict(small_clip))
    for stage in plain_stages:
        found.graphs[stage.name] = folder / f"{stage.name}.onnx"
        cast_stage(stage.name, plain_graphs[stage.name], found.graphs[stage.name], precision)
        found.wire.update(run_clip(load_engine("onnxruntime", plain_graphs[stage.name]), found.wire))
    return found


def test_the_network_bears_the_narrow_type(
    cast: Cast, plain_stages: tuple[Stage, ...], small_clip: dict[str, Array], tmp_path: Path
) -> None:
    """Through the whole chain, emulated: every tensor that crosses, and the masks."""
    narrow = dict(small_clip)
    for stage in plain_stages:
        engine = load_engine("onnxruntime", emulate(cast.graphs[stage.name], tmp_path / f"{stage.name}.onnx"))
        narrow |= run_clip(engine, narrow)
    for name in cast.wire.keys() - small_clip.keys():
        error = np.sqrt(np.mean((cast.wire[name] - narrow[name]) ** 2) / np.mean(cast.wire[name] ** 2))
        assert error < BUDGET[cast.precision], name
        # Far below what one rounding costs, nothing was rounded. A handful of scores may come out that well by chance.
        if cast.wire[name].size >= MANY_VALUES:
            assert error > BUDGET[cast.precision] / 500, name
    assert np.mean((cast.wire["MASK_LOGITS"] > 0) == (narrow["MASK_LOGITS"] > 0)) > 0.998


def test_the_files_are_half_as_large(cast: Cast, plain_graphs: dict[str, Path]) -> None:
    """But for the decoder in float16: most of its weights are kept."""
    for name in STAGE_NAMES:
        if (name, cast.precision) != ("sam2_decoder", "float16"):
            assert cast.graphs[name].stat().st_size < 0.65 * plain_graphs[name].stat().st_size


@pytest.mark.parametrize("cast", ["bfloat16"], indirect=True)
@pytest.mark.parametrize("name", STAGE_NAMES)
def test_every_stage_builds(name: str, cast: Cast, tmp_path: Path) -> None:
    """Float16, which engines have by default, is built of larger networks, in test_rtx_engines.py."""
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed: pip install tensorrt-rtx")
    record = build_engine(cast.graphs[name], tmp_path / "model.plan", load_builder("tensorrt_rtx"), (89, 120))
    assert record.precision == cast.precision
