"""Which nodes take the narrow type, and which stay float32."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from export.precision.emulation import emulate
from export.precision.half_precision import cast_graph
from model_repository.stage_runtime.engine import load_engine
from tests.export.precision.small_graphs import BFLOAT, FLOAT, HALF, TYPES, Write, both, computed_in, node


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
