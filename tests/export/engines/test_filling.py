"""A build's engines: built, compared, put in place, renewed; with stand-ins for what a machine without a GPU lacks.

A stand-in engine is its graph, emulated where that is narrow, so every comparison is a real one.
"""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest
from onnx import numpy_helper

from auralsam2_client.contract import BUILD_FORMAT, STAGE_NAMES
from export.builds import repository, served_precision
from export.builds.repository import build_repository
from export.builds.triton_config import parse
from export.engines import engine_runner, filling
from export.engines.cuda_driver import Card
from export.engines.engine_graphs import fused_graph_path, graph_path, write_engine_graphs
from export.engines.filling import add_engines, engine_path, renew_engines
from export.engines.tensorrt import EngineRecord, check_engine, read_record, record_path
from export.errors import ExportError, ParityError
from export.gates.stage_gate import Passed
from export.precision.emulation import emulate
from export.settings import ExportSettings
from model_repository.stage_runtime.engine import file_sha256
from tests.builds import SMALL
from tests.export.engines.engine_stand_ins import ADA, FakeBuilder, FakeDriver, fake_package, fake_tensorrt

L4 = Card("NVIDIA L4", 89)


@pytest.fixture(autouse=True)
def card(monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    """A machine with a card and TensorRT's runtime."""
    driver = FakeDriver()
    monkeypatch.setattr(engine_runner, "load_driver", lambda: driver)
    monkeypatch.setattr(filling, "load_runtime", lambda flavour: fake_package())
    return driver


@pytest.fixture
def engine_of(tmp_path: Path) -> Callable[[Path], bytes]:
    def make(graph: Path) -> bytes:
        return emulate(graph, tmp_path / "emulated" / graph.name).read_bytes()

    return make


@pytest.fixture
def builder(engine_of: Callable[[Path], bytes]) -> FakeBuilder:
    return fake_tensorrt(ADA, engine_of=engine_of)


@pytest.fixture
def build(tmp_path: Path, small_build: Path, gpu_graphs: dict[str, Path]) -> Path:
    """A folder with graphs and golden clip, ready for engines."""
    folder = tmp_path / "build"
    folder.mkdir()
    shutil.copy2(small_build / "golden.npz", folder)
    write_engine_graphs(gpu_graphs, folder, "float32", print)
    return folder


def fill(build: Path, builder: FakeBuilder, precision: str = "float32") -> tuple[dict[str, EngineRecord], list[str]]:
    lines: list[str] = []
    return add_engines(build, "tensorrt", (), precision, builder, lines.append), lines


def verbs(lines: list[str]) -> list[list[str]]:
    return [line.split()[:2] for line in lines]


def test_engines_are_built_compared_and_put_in_place(build: Path, builder: FakeBuilder, card: FakeDriver) -> None:
    records, lines = fill(build, builder)
    assert [verb for verb, _ in verbs(lines)] == ["building", "warning", "built"] * 4 + ["checked"] * 5
    for name in STAGE_NAMES:
        engine = engine_path(build, "tensorrt", name)
        assert engine == build / "models" / name / "1" / "model.plan"
        assert check_engine(engine, builder, onnx=graph_path(build, name)) == records[name]
        assert records[name].parity
    assert [row["output"] for row in records["hiera"].parity][-1] == "AUDIO_TOKENS_AFTER_HIERA"
    whole = records["sam2_decoder"].parity[-1]
    assert (whole["stage"], whole["output"]) == ("auralsam2", "MASK_LOGITS")
    assert whole["mask_agreement"] > 0.999
    # Nothing stays on the card, and nothing beside the engines.
    assert card.buffers == {}
    assert sorted(path.name for path in build.iterdir()) == ["golden.npz", "graphs", "models"]
    again, lines = fill(build, builder)
    assert again == records
    assert verbs(lines) == [["kept", name] for name in STAGE_NAMES]
    assert builder.builds == 4


def scaled(graph: Path, factor: float) -> bytes:
    """The graph with its largest matrix multiplied."""
    proto = onnx.load(graph)
    largest = max((t for t in proto.graph.initializer if len(t.dims) == 2), key=lambda t: t.dims[0] * t.dims[1])
    largest.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(largest) * factor, largest.name))
    return bytes(proto.SerializeToString())


@pytest.mark.parametrize("wrong", ["vggish", "hiera"])
def test_an_engine_that_answers_wrongly_never_enters(build: Path, builder: FakeBuilder, wrong: str) -> None:
    fill(build, builder)
    before = {name: read_record(engine_path(build, "tensorrt", name)) for name in STAGE_NAMES}
    spoilt = fake_tensorrt(
        ADA, engine_of=lambda graph: scaled(graph, 1.05) if graph.stem == wrong else graph.read_bytes()
    )
    spoilt.version = "11.5"
    with pytest.raises(
        ParityError, match=f"{wrong} engine vs its graph: .* relative RMS .* budget .* not put into the repository"
    ):
        fill(build, spoilt)
    assert {name: read_record(engine_path(build, "tensorrt", name)) for name in STAGE_NAMES} == before


def test_without_the_card_nobody_has_compared_them(build: Path, engine_of: Callable[[Path], bytes]) -> None:
    lines: list[str] = []
    ahead = FakeBuilder(engine_of=engine_of)
    records = add_engines(build, "tensorrt-rtx", (89, 120), "float32", ahead, lines.append)
    assert {path.name for path in (build / "engines").iterdir()} == {
        f"{name}.plan{suffix}" for name in STAGE_NAMES for suffix in ("", ".json")
    }
    assert all(record.parity == () and record.capabilities == (89, 120) for record in records.values())
    assert "not compared" in lines[-1]


@pytest.mark.parametrize("what", ["half", "manifest lost", "engine lost"])
def test_one_that_is_not_whole_is_built_again(build: Path, builder: FakeBuilder, what: str) -> None:
    records, _ = fill(build, builder)
    hiera = engine_path(build, "tensorrt", "hiera")
    if what == "half":
        hiera.write_bytes(hiera.read_bytes()[: hiera.stat().st_size // 2])
    else:
        (record_path(hiera) if what == "manifest lost" else hiera).unlink()
    again, lines = fill(build, builder)
    assert verbs(lines)[:2] == [["kept", "vggish"], ["building", "hiera"]]
    assert [verb for verb, _ in verbs(lines)].count("built") == 1
    assert again["hiera"].engine_sha256 == records["hiera"].engine_sha256


@pytest.mark.parametrize("other", [{"card": L4}, {"version": "11.5"}])
def test_another_card_or_version_has_engines_of_its_own(
    build: Path, builder: FakeBuilder, other: dict[str, Any]
) -> None:
    fill(build, builder)
    moved = dataclasses.replace(builder, **other)
    records, lines = fill(build, moved)
    assert [verb for verb, _ in verbs(lines)].count("built") == 4
    assert all("Build the engine again" in line for line in lines if line.startswith("note"))
    assert all(check_engine(engine_path(build, "tensorrt", name), moved) == records[name] for name in STAGE_NAMES)


@pytest.fixture
def exported(
    monkeypatch: pytest.MonkeyPatch, ready_made: None, gpu_graphs: dict[str, Path], builder: FakeBuilder
) -> FakeBuilder:
    """`build_repository` takes the GPU form's graphs, and finds this builder."""

    def copy_graphs(settings: ExportSettings, root: Path, report: object) -> dict[str, float]:
        for name in STAGE_NAMES:
            (root / name / "1").mkdir(parents=True)
            shutil.copy2(gpu_graphs[name], root / name / "1" / "model.onnx")
        return dict.fromkeys(STAGE_NAMES, 0.0)

    monkeypatch.setattr(repository, "export_graphs", copy_graphs)
    monkeypatch.setattr(repository, "load_builder", lambda flavour: builder)
    monkeypatch.setattr(filling, "load_builder", lambda flavour: builder)
    return builder


@pytest.fixture
def tensorrt_build(exported: FakeBuilder, tmp_path: Path) -> Path:
    settings = dataclasses.replace(SMALL, target="tensorrt", precision="float16")
    return build_repository(settings, tmp_path / settings.name)


def test_export_fills_a_repository_of_engines(tensorrt_build: Path) -> None:
    files = {path.relative_to(tensorrt_build).as_posix() for path in tensorrt_build.rglob("*") if path.is_file()}
    manifest = json.loads((tensorrt_build / "manifest.json").read_text())
    of_stages = {
        f"models/{name}/{file}"
        for name in STAGE_NAMES
        for file in ("config.pbtxt", "1/model.plan", "1/model.plan.json")
    }
    graphs = {f"graphs/{name}.onnx" for name in STAGE_NAMES}
    assert files == of_stages | graphs | {"models/auralsam2/config.pbtxt", "golden.npz", "manifest.json"}
    assert set(manifest["files"]) == files - {"manifest.json"}
    assert (manifest["target"], manifest["precision"], manifest["fusion"]) == ("tensorrt", "float16", "native")
    for name in STAGE_NAMES:
        engine = engine_path(tensorrt_build, "tensorrt", name)
        assert manifest["engines"][name]["engine_sha256"] == file_sha256(engine)
        config = parse((tensorrt_build / "models" / name / "config.pbtxt").read_text())
        assert (config.platform, config.max_batch_size) == ("tensorrt_plan", 0)
        assert config.optimization.cuda.graphs
        assert config.parameters["sha256"].string_value == file_sha256(graph_path(tensorrt_build, name))
        assert (config.instance_group[0].count, config.instance_group[0].kind) == (1, 1)
        (warmup,) = config.model_warmup
        assert {entry.name for entry in config.input} == set(warmup.inputs)


def test_engines_are_renewed_where_they_do_not_fit(tensorrt_build: Path, exported: FakeBuilder) -> None:
    before = json.loads((tensorrt_build / "manifest.json").read_text())
    exported.card = L4
    lines: list[str] = []
    renew_engines(tensorrt_build, lines.append)
    after = json.loads((tensorrt_build / "manifest.json").read_text())
    assert [entry["gpu"] for entry in after["engines"].values()] == [L4.name] * 4
    assert {name: file_sha256(tensorrt_build / name) for name in after["files"]} == after["files"]
    assert set(after["files"]) == set(before["files"])
    lines.clear()
    renew_engines(tensorrt_build, lines.append)
    assert verbs(lines) == [["kept", name] for name in STAGE_NAMES]


def test_a_graph_that_was_altered_makes_no_engine(tensorrt_build: Path) -> None:
    graph = graph_path(tensorrt_build, "hiera")
    graph.write_bytes(graph.read_bytes()[:-1])
    with pytest.raises(ExportError, match=r"hiera\.onnx: missing, or not the graph that was exported"):
        renew_engines(tensorrt_build, print)


def test_what_has_no_engines(small_build: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"exported for cpu, which has no engines\. Export with --target tensorrt or"):
        renew_engines(small_build, print)
    with pytest.raises(ExportError, match="is no build: manifest"):
        renew_engines(tmp_path, print)


@pytest.mark.parametrize("found", ["1", "null"])
def test_a_build_of_another_format_gets_no_engines(tmp_path: Path, found: str) -> None:
    (tmp_path / "manifest.json").write_text(f'{{"format": {found}, "target": "tensorrt"}}')
    wanted = rf"manifest of format (1|None); this version reads {BUILD_FORMAT}.*Export again"
    with pytest.raises(ExportError, match=wanted):
        renew_engines(tmp_path, print)


def test_without_the_package_export_ends_before_the_long_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(repository, "export_graphs", lambda *arguments: pytest.fail("exporting has begun"))
    monkeypatch.setitem(__import__("sys").modules, "tensorrt", None)
    with pytest.raises(ExportError, match=r"tensorrt is not installed .* pip install tensorrt"):
        build_repository(dataclasses.replace(SMALL, target="tensorrt"), tmp_path / "build")
    assert not (tmp_path / "build").exists()


def test_tensorrt_rtx_exports_engines_and_graphs_alone(exported: FakeBuilder, tmp_path: Path) -> None:
    exported.flavour, exported.card, exported.targets = "tensorrt_rtx", None, (89, 120)
    settings = dataclasses.replace(SMALL, target="tensorrt-rtx", precision="float32", capabilities=(89, 120))
    assert settings.name.endswith("-tensorrt-rtx-sm89-sm120")
    out = build_repository(settings, tmp_path / settings.name)
    assert sorted(path.name for path in out.iterdir()) == ["cache", "engines", "golden.npz", "graphs", "manifest.json"]


def test_narrow_graphs_have_to_pass_as_well(
    exported: FakeBuilder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[str] = []

    remembered = served_precision.pass_gate

    def gate(settings: ExportSettings, model: Any, stages: Any, load: Any, precision: str, *rest: Any) -> Passed:
        asked.append(precision)
        if precision == "float16":
            raise ParityError("too far off")
        return remembered(settings, model, stages, load, precision, *rest)

    monkeypatch.setattr(served_precision, "pass_gate", gate)
    with pytest.raises(ParityError, match="too far off"):
        build_repository(dataclasses.replace(SMALL, target="tensorrt", precision="float16"), tmp_path / "build")
    assert asked == ["float32", "float16"]
    assert not (tmp_path / "build").exists()
    assert exported.builds == 0


@pytest.fixture
def plugged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The plugins that were registered; the graph that holds them is the fused one with its functions' bodies."""
    registered: list[str] = []

    def with_plugins(source: Path, out: Path, capability: int, **settings: Any) -> tuple[Any, ...]:
        out.write_bytes(source.read_bytes())
        record = {"operator": "audio_visual_fusion", "capability": capability, "gpu": settings["gpu"]}
        return (
            SimpleNamespace(as_record=lambda: record, plugins=("mix",), operator="fusion", count=6, dtype="float32"),
        )

    monkeypatch.setattr(filling, "with_plugins", with_plugins)
    monkeypatch.setattr(
        filling, "register_plugins", lambda uses: registered.extend(name for use in uses for name in use.plugins)
    )
    return registered


def test_the_fusion_of_an_engine_is_a_plugin_where_asked(
    exported: FakeBuilder, plugged: list[str], tmp_path: Path
) -> None:
    settings = dataclasses.replace(SMALL, target="tensorrt", precision="float32", fusion="plugin")
    build = build_repository(settings, tmp_path / settings.name)
    manifest = json.loads((build / "manifest.json").read_text())
    fused = fused_graph_path(build)
    assert plugged == ["mix"]
    assert manifest["files"][fused.relative_to(build).as_posix()] == file_sha256(fused)
    assert {node.domain for node in onnx.load(fused).graph.node} == {"", "auralsam2"}
    record = read_record(engine_path(build, "tensorrt", "aural_fuser"))
    assert record.onnx_sha256 == file_sha256(fused)
    assert record.plugins == ({"operator": "audio_visual_fusion", "capability": 89, "gpu": ADA.name},)
    # The graph with plugins was compared with the native one.
    assert record.parity
    assert read_record(engine_path(build, "tensorrt", "hiera")).plugins == ()
    lines: list[str] = []
    renew_engines(build, lines.append)
    assert verbs(lines) == [["kept", name] for name in STAGE_NAMES]
    fused.write_bytes(b"altered")
    with pytest.raises(ExportError, match=r"aural_fuser-fused\.onnx: missing, or not the graph"):
        renew_engines(build, print)
