"""TensorRT-RTX builds every stage ahead of time, in the engines' default precision, for cards that are not there."""

from pathlib import Path

import pytest

from auralsam2_client.contract import STAGE_NAMES
from export.engines.tensorrt import build_engine, check_engine
from export.engines.tensorrt_builder import load_builder
from export.precision.stage_casts import cast_stage
from export.settings import ENGINE_PRECISIONS
from tests.export.graphs_on_gpu import OnGpu

ADA_AND_BLACKWELL = (89, 120)


@pytest.mark.parametrize("name", STAGE_NAMES)
@pytest.mark.parametrize("network", ["compact_on_gpu", "tiny_on_gpu"])
def test_every_stage_builds_for_ada_and_blackwell(
    network: str, name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed: pip install tensorrt-rtx")
    on_gpu: OnGpu = request.getfixturevalue(network)
    (wide,) = (path for stage, path in on_gpu.graphs if stage.name == name)
    graph, engine, precision = tmp_path / f"{name}.onnx", tmp_path / "model.plan", ENGINE_PRECISIONS[0]
    cast_stage(name, wide, graph, precision)
    builder, warnings = load_builder("tensorrt_rtx"), list[str]()
    record = build_engine(graph, engine, builder, ADA_AND_BLACKWELL, report=warnings.append)
    assert check_engine(engine, builder, (120,), onnx=graph) == record
    assert (record.precision, record.capabilities, record.gpu) == (precision, ADA_AND_BLACKWELL, None)
    # The weights are inside.
    assert record.engine_bytes > 0.9 * graph.stat().st_size
    assert warnings == []
