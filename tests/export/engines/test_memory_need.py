"""What a graph needs, by hand on a small one, and in the order of magnitude of what is known on a large one."""

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from export.engines.memory_need import MemoryNeed, memory_need


def test_each_value_lives_until_its_last_reader(tmp_path: Path) -> None:
    """X -> A -> B -> Y, and A once more at the end: at B's node X, A, B and Y's buffer are alive."""
    nodes = [
        helper.make_node("Relu", ["X"], ["A"]),
        helper.make_node("MatMul", ["A", "W"], ["B"]),
        helper.make_node("Relu", ["B"], ["C"]),
        helper.make_node("Add", ["A", "C"], ["Y"]),
    ]
    given, wanted = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [4, 10]) for name in "XY")
    weights = helper.make_tensor("W", TensorProto.FLOAT, [10, 10], [0.0] * 100)
    path = tmp_path / "graph.onnx"
    onnx.save(helper.make_model(helper.make_graph(nodes, "graph", [given], [wanted], [weights])), path)
    map_bytes = 4 * 10 * 4
    need = memory_need(path)
    # X and Y are the caller's throughout; A, B and C are alive together while C is made.
    assert need == MemoryNeed(400, 5 * map_bytes)
    assert need.to_build == 800 + 5 * map_bytes


@pytest.mark.parametrize("stage", ["vggish", "hiera", "aural_fuser", "sam2_decoder"])
def test_every_stage_has_a_need(stage: str, small_graphs: dict[str, Path]) -> None:
    need, size = memory_need(small_graphs[stage]), small_graphs[stage].stat().st_size
    assert 0.8 * size < need.weights < size
    assert need.activations > 100_000
