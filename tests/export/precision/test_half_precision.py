"""Casting a graph to float16 or bfloat16: what is written, what is refused, what it costs the network's outputs."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from auralsam2.stages.clip_stages import Stage
from auralsam2_client.contract import STAGE_NAMES
from export.engines.tensorrt import build_engine
from export.engines.tensorrt_builder import load_builder
from export.errors import ExportError
from export.graphs.chain import run_clip
from export.precision.emulation import emulate
from export.precision.half_precision import cast_graph
from export.precision.stage_casts import cast_stage
from model_repository.stage_runtime.engine import Array, load_engine
from tests.export.precision.small_graphs import FLOAT, TYPES, Write, both, computed_in, node, types

# 2^-11 and 2^-8 a rounding; tens of layers add theirs, as independent errors do.
BUDGET = {"float16": 2e-3, "bfloat16": 1.6e-2}
MANY_VALUES = 100


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"precision": "int8"}, "precision 'int8'; a graph is cast to float16 or bfloat16"),
        ({"keep": ["nothing*"]}, r"graph\.onnx: keep 'nothing\*' names no node, no tensor and no weight"),
        ({"wide_outputs": ["Z"]}, r"'Z' is not an output; the graph has Y\."),
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
