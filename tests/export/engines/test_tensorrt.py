"""Engines and their manifests: what is written, and what is refused."""

import dataclasses
import functools
import json
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

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
from export.engines.tensorrt_builder import EngineBuilder
from export.errors import ExportError
from model_repository.stage_runtime.engine import file_sha256
from tests.export.engines import engine_stand_ins as stand_ins
from tests.export.engines.engine_stand_ins import ADA, fake_tensorrt, names, write_graph

ENGINE_BYTES = 1 << 20


FakeBuilder = functools.partial(stand_ins.FakeBuilder, least_bytes=ENGINE_BYTES)


@pytest.fixture
def engine(graph: Path, tmp_path: Path) -> Path:
    """An engine of the fake builder for capability 89."""
    path = tmp_path / "engines" / "model.plan"
    build_engine(graph, path, FakeBuilder(), (89,))
    return path


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
    with pytest.raises(ExportError, match=r"model\.plan\.json is not an engine manifest"):
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
