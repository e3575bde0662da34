"""The installed packages that build engines; with TensorRT-RTX, that every stage builds."""

import sys
from pathlib import Path

import pytest
from onnx import TensorProto

from auralsam2_client.contract import STAGE_NAMES
from export.engines.tensorrt import (
    build_engine,
    check_engine,
)
from export.engines.tensorrt_builder import Built, EngineBuilder, load_builder
from export.errors import ExportError
from tests.export.engines.engine_stand_ins import names, write_graph


@pytest.mark.parametrize(
    ("types", "precision"),
    [({"float32"}, "float32"), ({"float32", "float16"}, "float16"), ({"float32", "bfloat16"}, "bfloat16")],
)
def test_the_precision_is_the_narrowest_type(types: set[str], precision: str) -> None:
    assert Built(memoryview(b""), frozenset(types)).precision == precision


def test_a_flavour_that_is_unknown() -> None:
    with pytest.raises(ExportError, match="engine package 'trt' is unknown; choose one of tensorrt, tensorrt_rtx"):
        load_builder("trt")


@pytest.mark.parametrize(("flavour", "package"), [("tensorrt", "tensorrt"), ("tensorrt_rtx", "tensorrt-rtx")])
def test_a_package_that_is_not_installed_is_named(flavour: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, flavour, None)
    with pytest.raises(ExportError, match=f"{flavour} is not installed .*pip install {package}$"):
        load_builder(flavour)


@pytest.fixture
def rtx() -> EngineBuilder:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed: pip install tensorrt-rtx")
    return load_builder("tensorrt_rtx")


@pytest.mark.parametrize("name", STAGE_NAMES)
def test_every_stage_builds_for_ada_and_blackwell(
    name: str, rtx: EngineBuilder, gpu_graphs: dict[str, Path], tmp_path: Path
) -> None:
    lines: list[str] = []
    out = tmp_path / "model.plan"
    record = build_engine(gpu_graphs[name], out, rtx, (89, 120), report=lines.append)
    assert check_engine(out, rtx, (120,), onnx=gpu_graphs[name]) == record
    assert (record.precision, record.capabilities, record.gpu) == ("float32", (89, 120), None)
    # The weights are inside.
    assert record.engine_bytes > 0.9 * gpu_graphs[name].stat().st_size
    assert lines == []


def test_one_graph_makes_one_engine_and_another_card_another(rtx: EngineBuilder, graph: Path, tmp_path: Path) -> None:
    first, second, other = (
        build_engine(graph, tmp_path / f"{index}.plan", rtx, (capability,)).engine_sha256
        for index, capability in enumerate((89, 89, 120))
    )
    assert first == second != other


def test_the_precision_stands_in_the_graph(rtx: EngineBuilder, tmp_path: Path) -> None:
    for element, precision in ((TensorProto.FLOAT16, "float16"), (TensorProto.BFLOAT16, "bfloat16")):
        graph = write_graph(tmp_path / f"{precision}.onnx", element=element)
        assert build_engine(graph, tmp_path / "model.plan", rtx, (89,)).precision == precision


def test_float32_is_not_tf32(rtx: EngineBuilder, graph: Path, tmp_path: Path) -> None:
    """The engine is the one that the package makes with TF32 off, which is not what it makes unasked."""
    trt = pytest.importorskip("tensorrt_rtx")

    def plainly(tf32: bool) -> bytes:
        builder = trt.Builder(trt.Logger(trt.Logger.INTERNAL_ERROR))
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        assert trt.OnnxParser(network, trt.Logger(trt.Logger.INTERNAL_ERROR)).parse_from_file(str(graph))
        config = builder.create_builder_config()
        config.num_compute_capabilities = 1
        assert config.set_compute_capability(trt.ComputeCapability.SM89, 0)
        if not tf32:
            config.clear_flag(trt.BuilderFlag.TF32)
        return bytes(builder.build_serialized_network(network, config))

    build_engine(graph, tmp_path / "model.plan", rtx, (89,))
    assert plainly(tf32=True) != plainly(tf32=False) == (tmp_path / "model.plan").read_bytes()


def test_a_node_that_is_not_supported_is_named(rtx: EngineBuilder, tmp_path: Path) -> None:
    graph = write_graph(tmp_path / "graph.onnx", "NoSuchOperator")
    with pytest.raises(ExportError, match=r"cannot read it\. NoSuchOperator the_only_node: "):
        build_engine(graph, tmp_path / "model.plan", rtx, (89,))


def test_a_card_that_cannot_compute_the_graph(rtx: EngineBuilder, graph: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"cannot build it for 75.*the_only_node.*FP32 GEMM is not supported"):
        build_engine(graph, tmp_path / "model.plan", rtx, (75,))


@pytest.mark.parametrize("content", [b"", b"no protobuf message at all " * 9])
def test_a_file_that_is_no_onnx(rtx: EngineBuilder, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "graph.onnx").write_bytes(content)
    with pytest.raises(ExportError, match=r"graph\.onnx(: .* cannot read it| holds no graph)"):
        build_engine(tmp_path / "graph.onnx", tmp_path / "model.plan", rtx, (89,))
    assert names(tmp_path) == ["graph.onnx"]


def test_the_package_says_what_it_builds_for(rtx: EngineBuilder) -> None:
    assert rtx.targets is not None
    assert {86, 89, 120} <= set(rtx.targets)
    assert rtx.cuda.isdigit()
