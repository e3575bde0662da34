"""Graphs that share a file of weights compute what they did, and equal tensors lie in it once."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.graphs.shared_weights import ALIGNMENT_BYTES, share_weights
from model_repository.stage_runtime.engine import load_engine

SIDE = 20


def graph(path: Path, own: float) -> Path:
    """Y = X A + B + c: A of every graph is the same, B its own, c too small to be moved."""
    shape = [SIDE, SIDE]
    common = np.arange(SIDE * SIDE, dtype=np.float32).reshape(shape) / 100
    constants = {"A": common, "B": np.full(shape, own, np.float32), "c": np.float32([0.5])}
    nodes = [
        helper.make_node("MatMul", ["X", "A"], ["XA"]),
        helper.make_node("Add", ["XA", "B"], ["XAB"]),
        helper.make_node("Add", ["XAB", "c"], ["Y"]),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("X", "Y")]
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    made = helper.make_graph(nodes, "test", values[:1], values[1:], initializers)
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


@pytest.mark.parametrize("kind", ["openvino", "onnxruntime"])
def test_graphs_compute_what_they_did(kind: str, tmp_path: Path) -> None:
    graphs = [graph(tmp_path / f"{number}.onnx", number) for number in (1, 2)]
    given = {"X": np.random.default_rng(0).normal(size=(SIDE, SIDE)).astype(np.float32)}
    before = [load_engine(kind, path)(given)["Y"].copy() for path in graphs]
    share_weights(graphs, tmp_path / "all.weights")
    for path, wanted in zip(graphs, before, strict=True):
        onnx.checker.check_model(str(path))
        np.testing.assert_allclose(load_engine(kind, path)(given)["Y"], wanted, rtol=1e-6)


def test_equal_tensors_lie_there_once_and_aligned(tmp_path: Path) -> None:
    graphs = [graph(tmp_path / f"{number}.onnx", number) for number in (1, 2)]
    share_weights(graphs, tmp_path / "all.weights")
    offsets: dict[str, list[int]] = {}
    for path in graphs:
        assert path.stat().st_size < 1000
        for tensor in onnx.load(path, load_external_data=False).graph.initializer:
            entries = {entry.key: entry.value for entry in tensor.external_data}
            if tensor.name == "c":
                assert not entries
                continue
            assert entries["location"] == "all.weights"
            offsets.setdefault(tensor.name, []).append(int(entries["offset"]))
    assert offsets["A"][0] == offsets["A"][1]
    assert offsets["B"][0] != offsets["B"][1]
    assert all(offset % ALIGNMENT_BYTES == 0 for places in offsets.values() for offset in places)
    assert (tmp_path / "all.weights").stat().st_size < 4 * 4 * SIDE * SIDE


def test_without_its_weights_a_graph_does_not_load(tmp_path: Path) -> None:
    path = graph(tmp_path / "1.onnx", 1)
    share_weights([path], tmp_path / "all.weights")
    (tmp_path / "all.weights").unlink()
    with pytest.raises(Exception, match=r"all\.weights"):
        onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
