"""Engines: what is written, what is refused, and, where TensorRT-RTX is installed, that every stage builds."""

import dataclasses
import functools
import json
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from auralsam2_client.contract import STAGE_NAMES
from export.engines.cuda_driver import Card
from export.engines.tensorrt import (
    build_engine,
    check_capabilities,
    check_engine,
    parse_capability,
    read_record,
    record_path,
    write_record,
)
from export.engines.tensorrt_builder import Built, EngineBuilder, load_builder
from export.errors import ExportError
from model_repository.stage_runtime.engine import file_sha256
from tests.export.engines import engine_stand_ins as stand_ins
from tests.export.engines.engine_stand_ins import ADA, fake_tensorrt

ENGINE_BYTES = 1 << 20


FakeBuilder = functools.partial(stand_ins.FakeBuilder, least_bytes=ENGINE_BYTES)


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """Y = X W in float32, X [2, 8]."""
    return write_graph(tmp_path / "graph.onnx")


def write_graph(path: Path, op_type: str = "MatMul", element: int = TensorProto.FLOAT) -> Path:
    weights = np.linspace(-1, 1, 64, dtype=np.float32).reshape(8, 8)
    initializer = numpy_helper.from_array(weights.astype(helper.tensor_dtype_to_np_dtype(element)), "W")
    value = [helper.make_tensor_value_info(name, element, [2, 8]) for name in "XY"]
    node = helper.make_node(op_type, ["X", "W"], ["Y"], name="the_only_node")
    graph = helper.make_graph([node], "graph", value[:1], value[1:], [initializer])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


@pytest.fixture
def engine(graph: Path, tmp_path: Path) -> Path:
    """An engine of the fake builder for capability 89."""
    path = tmp_path / "engines" / "model.plan"
    build_engine(graph, path, FakeBuilder(), (89,))
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def full_disk() -> Iterator[None]:
    """No file of this process may grow beyond 64 kB: the kernel refuses the write, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_an_engine_and_its_manifest(graph: Path, tmp_path: Path) -> None:
    warnings: list[str] = []
    out = tmp_path / "engines" / "model.plan"
    record = build_engine(graph, out, FakeBuilder(), (120, 89, 89), report=warnings.append)
    assert names(out.parent) == ["model.plan", "model.plan.json"]
    assert record == read_record(out)
    assert record.capabilities == (89, 120)
    assert (record.flavour, record.version, record.cuda, record.gpu) == ("tensorrt_rtx", "1.7.1", "13", None)
    assert record.precision == "float32"
    assert (record.onnx_sha256, record.engine_sha256) == (file_sha256(graph), file_sha256(out))
    assert record.engine_bytes == out.stat().st_size == ENGINE_BYTES
    assert warnings == ["warning    graph.onnx: a weight is subnormal"]
    assert check_engine(out, FakeBuilder(), (89,), onnx=graph) == record


@pytest.mark.parametrize(
    ("types", "precision"),
    [({"float32"}, "float32"), ({"float32", "float16"}, "float16"), ({"float32", "bfloat16"}, "bfloat16")],
)
def test_the_precision_is_the_narrowest_type(types: set[str], precision: str) -> None:
    assert Built(memoryview(b""), frozenset(types)).precision == precision


def test_parity_can_be_added_to_the_manifest(engine: Path) -> None:
    parity = ({"stage": "hiera", "output": "PATCHES_1", "relative_rms": 1e-3},)
    write_record(engine, dataclasses.replace(read_record(engine), parity=parity))
    assert check_engine(engine, FakeBuilder(), (89,)).parity == parity


def test_an_onnx_file_that_does_not_match_its_manifest_is_not_built(graph: Path, tmp_path: Path) -> None:
    builder, wanted = FakeBuilder(), file_sha256(graph)
    graph.write_bytes(graph.read_bytes()[:-1])
    with pytest.raises(ExportError, match=r"graph\.onnx: SHA-256 .* its manifest says .*auralsam2 export"):
        build_engine(graph, tmp_path / "model.plan", builder, (89,), onnx_sha256=wanted)
    assert builder.builds == 0


def test_a_missing_onnx_file(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"none\.onnx: no such ONNX file"):
        build_engine(tmp_path / "none.onnx", tmp_path / "model.plan", FakeBuilder(), (89,))


def test_a_build_that_fails_leaves_what_was_there(graph: Path, engine: Path) -> None:
    before = engine.read_bytes(), record_path(engine).read_bytes()
    with pytest.raises(ExportError, match="too large"):
        build_engine(graph, engine, FakeBuilder(refusal="too large"), (89,))
    assert (engine.read_bytes(), record_path(engine).read_bytes()) == before
    assert names(engine.parent) == ["model.plan", "model.plan.json"]


def test_who_reads_an_engine_keeps_it_while_it_is_replaced(graph: Path, engine: Path) -> None:
    before = engine.read_bytes()
    with engine.open("rb") as reader:
        build_engine(graph, engine, FakeBuilder(), (120,))
        assert reader.read() == before != engine.read_bytes()


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_is_one_error_and_leaves_nothing(graph: Path, tmp_path: Path) -> None:
    out = tmp_path / "engines" / "model.plan"
    with pytest.raises(ExportError, match=rf"model\.plan: {ENGINE_BYTES} bytes could not be written .* bytes are free"):
        build_engine(graph, out, FakeBuilder(), (89,))
    assert names(out.parent) == []


def test_a_full_disk_keeps_the_engine_that_was_there(graph: Path, engine: Path, request: pytest.FixtureRequest) -> None:
    request.getfixturevalue("full_disk")
    with pytest.raises(ExportError, match="could not be written"):
        build_engine(graph, engine, FakeBuilder(), (120,))
    assert names(engine.parent) == ["model.plan", "model.plan.json"]
    assert check_engine(engine, FakeBuilder(), (89,)).capabilities == (89,)


def test_a_folder_that_cannot_be_made(graph: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ExportError, match=r"model\.plan: .* could not be written \(File exists\)"):
        build_engine(graph, tmp_path / "file" / "model.plan", FakeBuilder(), (89,))


def test_a_missing_engine(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"model\.plan: no such engine"):
        check_engine(tmp_path / "model.plan", FakeBuilder(), (89,))


@pytest.mark.parametrize("damage", ["cut", "altered"])
def test_a_half_written_engine_is_refused(engine: Path, damage: str) -> None:
    content = engine.read_bytes()
    engine.write_bytes(content[: len(content) // 2] if damage == "cut" else content[:-1] + b"x")
    with pytest.raises(ExportError, match="half-written or altered"):
        check_engine(engine, FakeBuilder(), (89,))


def test_a_build_stopped_between_engine_and_manifest_is_refused(graph: Path, engine: Path, tmp_path: Path) -> None:
    newer = tmp_path / "newer" / "model.plan"
    build_engine(graph, newer, FakeBuilder(), (89, 120))
    newer.replace(engine)
    with pytest.raises(ExportError, match="half-written or altered"):
        check_engine(engine, FakeBuilder(), (89,))
    record_path(engine).unlink()
    with pytest.raises(ExportError, match=r"has no manifest model\.plan\.json: its build did not finish"):
        check_engine(engine, FakeBuilder(), (89,))


@pytest.mark.parametrize("text", ["", "[]", '{"format": 1}', '{"format": 1, "capabilities": 3, "parity": []}', "\x00"])
def test_a_manifest_that_is_none(engine: Path, text: str) -> None:
    record_path(engine).write_text(text)
    with pytest.raises(ExportError, match=r"model\.plan\.json is no engine manifest"):
        read_record(engine)


def test_a_manifest_of_another_format(engine: Path) -> None:
    entries = json.loads(record_path(engine).read_text()) | {"format": 2}
    record_path(engine).write_text(json.dumps(entries))
    with pytest.raises(ExportError, match="format 2; this version reads 1"):
        read_record(engine)


@pytest.mark.parametrize(
    ("here", "capabilities", "message"),
    [
        (FakeBuilder(version="1.8.0"), (89,), r"built by tensorrt_rtx 1\.7\.1; here is tensorrt_rtx 1\.8\.0"),
        (FakeBuilder(flavour="tensorrt"), (89,), r"built by tensorrt_rtx 1\.7\.1; here is tensorrt 1\.7\.1"),
        (FakeBuilder(), (120,), "built for compute capability 89, not for 120"),
        (FakeBuilder(), (89, 120), "built for compute capability 89, not for 89, 120"),
        (FakeBuilder(card=Card("NVIDIA RTX 5090", 120)), (), "built for compute capability 89, not for 120"),
    ],
)
def test_an_engine_for_something_else_is_refused(
    engine: Path, here: EngineBuilder, capabilities: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ExportError, match=message):
        check_engine(engine, here, capabilities)


def test_an_engine_fits_the_card_that_is_here(engine: Path) -> None:
    assert check_engine(engine, FakeBuilder(card=ADA)).gpu is None


def test_an_engine_of_another_graph_is_refused(engine: Path, tmp_path: Path) -> None:
    other = write_graph(tmp_path / "other.onnx", "Gemm")
    with pytest.raises(ExportError, match=r"was built from the ONNX file .*; other\.onnx is"):
        check_engine(engine, FakeBuilder(), (89,), onnx=other)


def tensorrt(card: Card | None) -> stand_ins.FakeBuilder:
    return fake_tensorrt(card, least_bytes=ENGINE_BYTES)


def test_tensorrt_builds_for_the_card_it_finds(graph: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.plan"
    record = build_engine(graph, out, tensorrt(ADA))
    assert (record.gpu, record.capabilities) == (ADA.name, (89,))
    assert check_engine(out, tensorrt(ADA)) == record
    for other, found in ((Card("NVIDIA L4", 89), "NVIDIA L4"), (None, "no GPU")):
        with pytest.raises(ExportError, match=f"was built for {ADA.name}; here is {found}"):
            check_engine(out, tensorrt(other))


def test_compute_capabilities() -> None:
    assert check_capabilities(FakeBuilder(), (120, 89)) == (89, 120)
    assert check_capabilities(FakeBuilder(card=ADA), ()) == (89,)
    assert check_capabilities(FakeBuilder(card=ADA), (120,)) == (120,)
    assert check_capabilities(tensorrt(ADA), (89,)) == (89,)
    for builder, wanted, message in (
        (FakeBuilder(), (89, 90), r"compute capability 90: tensorrt_rtx 1\.7\.1 builds for 75, 86, 89, 120\."),
        (FakeBuilder(), (), "no GPU here; name the compute capability to build for: 75, 86, 89, 120"),
        (FakeBuilder(card=Card("NVIDIA H200", 90)), (), "compute capability 90"),
        (tensorrt(None), (89,), "there is none here"),
        (tensorrt(ADA), (120,), "compute capability 89, not for 120"),
    ):
        with pytest.raises(ExportError, match=message):
            check_capabilities(builder, wanted)


@pytest.mark.parametrize(("text", "number"), [("89", 89), ("8.9", 89), ("sm_89", 89), ("12.0", 120), ("SM120", 120)])
def test_a_capability_is_written_in_several_ways(text: str, number: int) -> None:
    assert parse_capability(text) == number


@pytest.mark.parametrize("text", ["", "9", "8.9.1", "ada", "-89", "1200"])
def test_what_is_no_capability(text: str) -> None:
    with pytest.raises(ExportError, match=r"write it as 8\.9 or 89"):
        parse_capability(text)


def test_a_card_that_is_too_small(graph: Path, tmp_path: Path) -> None:
    """256 bytes of weights twice, 64 of X and 64 of Y."""
    build_engine(graph, tmp_path / "model.plan", fake_tensorrt(ADA, memory=(640, 10_000)))
    with pytest.raises(ExportError, match=r"not enough GPU memory to build graph: at least .* GB are needed"):
        build_engine(graph, tmp_path / "other.plan", fake_tensorrt(ADA, memory=(639, 10_000)))
    assert not (tmp_path / "other.plan").exists()


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
