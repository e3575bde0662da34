"""Builds with engines, exported and renewed; with stand-ins for what a machine without a GPU lacks."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest

from auralsam2_client.contract import BUILD_FORMAT, STAGE_NAMES
from export.builds import repository, served_precision
from export.builds.repository import build_repository
from export.builds.triton_config import parse
from export.engines import filling
from export.engines.engine_graphs import fused_graph_path, graph_path
from export.engines.filling import engine_path, renew_engines
from export.engines.tensorrt import read_record
from export.errors import ExportError, ParityError
from export.gates.stage_gate import GateResult
from export.settings import ExportSettings
from model_repository.stage_runtime.engine import file_sha256
from tests.builds import SMALL
from tests.export.engines.engine_stand_ins import ADA, L4, FakeBuilder, verbs

pytestmark = pytest.mark.usefixtures("card")


@pytest.fixture
def exported(
    monkeypatch: pytest.MonkeyPatch,
    ready_made: Callable[..., GateResult],
    gpu_graphs: dict[str, Path],
    builder: FakeBuilder,
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
    with pytest.raises(ExportError, match="is not a build: manifest"):
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
    exported: FakeBuilder, ready_made: Callable[..., GateResult], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[str] = []

    def gate(settings: ExportSettings, model: Any, stages: Any, load: Any, precision: str, *rest: Any) -> GateResult:
        asked.append(precision)
        if precision == "float16":
            raise ParityError("too far off")
        return ready_made(settings, model, stages, load, precision, *rest)

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
