"""What tests of precision share: a writer of small graphs, and the small build's stages, each cast once."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import NodeProto, helper, numpy_helper

from export.precision.stage_casts import cast_stage
from tests.export.precision.cast_graphs import Graph, read
from tests.export.precision.small_graphs import FLOAT, Write


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


@pytest.fixture(scope="session")
def stage_cast(plain_graphs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Graph]:
    """The graph of a stage in a precision, cast once."""
    folder, made = tmp_path_factory.mktemp("cast"), dict[tuple[str, str], Graph]()

    def get(stage: str, kind: str) -> Graph:
        if (stage, kind) not in made:
            path = folder / f"{stage}-{kind}.onnx"
            cast_stage(stage, plain_graphs[stage], path, kind)
            made[stage, kind] = read(path)
        return made[stage, kind]

    return get
