"""The rounding of a narrow graph, on a CPU."""

from pathlib import Path

import numpy as np
from onnx import helper

from export.precision.emulation import emulate
from export.precision.half_precision import cast_graph
from model_repository.stage_runtime.engine import Array, load_engine
from tests.export.precision.small_graphs import TYPES, Write, both, node


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
