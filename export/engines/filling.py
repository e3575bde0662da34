"""Fill a build with the engines of its graphs, and renew those that do not fit this machine.

An engine is built beside its place and moved there with its manifest once its answers were compared; on a machine
without the card, which only TensorRT-RTX builds on, its manifest says by an empty `parity` that nobody compared it yet.
"""

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from auralsam2_client.contract import BUILD_FORMAT, STAGE_NAMES
from export.engines.engine_gate import pass_engine_gate
from export.engines.engine_graphs import FUSER, fused_graph_path, graph_path
from export.engines.engine_runner import LoadedEngine, load_runtime
from export.engines.fusion_plugins import register_plugins, with_plugins
from export.engines.tensorrt import (
    EngineRecord,
    build_engine,
    check_capabilities,
    check_engine,
    record_path,
    write_record,
)
from export.engines.tensorrt_builder import EngineBuilder, load_builder, write_whole
from export.errors import ExportError
from export.precision.stage_casts import cast_stage
from export.reports import Report
from export.settings import ENGINE_FLAVOURS
from model_repository.stage_runtime.engine import file_sha256

MANIFEST = "manifest.json"


def engine_path(build: Path, target: str, stage: str) -> Path:
    """Tell where an engine lies. Those of TensorRT-RTX lie apart: the server's TensorRT backend does not load them."""
    if target == "tensorrt":
        return build / "models" / stage / "1" / "model.plan"
    return build / "engines" / f"{stage}.plan"


def add_engines(
    build: Path,
    target: str,
    capabilities: tuple[int, ...],
    precision: str,
    builder: EngineBuilder,
    report: Report,
    load: Callable[[Path], LoadedEngine] | None = None,
    fusion: str = "native",
) -> dict[str, EngineRecord]:
    """Build every engine that is missing, not whole, or made for another graph, card or version; compare; put in place.

    Args:
        build: holds the graphs and golden.npz.
        fusion: native, or plugin: the fuser's engine is built from the graph of `fused_graph_path`. It is compared with
            the native graph all the same.
        load: runs an engine; None: the builder's own package, on this machine's card.
    Returns: the manifest of every engine, by stage. A line for each says what was done, and how long it took.
    Raises: ExportError or ParityError; no engine has then been put in place.
    """
    chosen = check_capabilities(builder, capabilities)
    graphs = {name: graph_path(build, name) for name in STAGE_NAMES}
    cache = None if builder.card is None else build / "cache" / f"timing-{builder.flavour}-{builder.version}.bin"
    records: dict[str, EngineRecord] = {}
    with tempfile.TemporaryDirectory(dir=build, prefix=".engines-") as staged_in:
        engines = {name: engine_path(build, target, name) for name in STAGE_NAMES}
        built: dict[str, Path] = {}
        for name, graph in graphs.items():
            plugged = fusion == "plugin" and name == FUSER
            source = fused_graph_path(build) if plugged else graph
            try:
                records[name] = check_engine(engines[name], builder, chosen, onnx=source)
                report(f"kept       {name:13} {records[name].engine_bytes / 1e6:7.1f} MB")
                continue
            except ExportError as why:
                report(f"building   {name:13} for {', '.join(map(str, chosen))}")
                if engines[name].exists():
                    report(f"note       {why}")
            built[name] = Path(staged_in) / f"{name}.plan"
            make = partial(_build_with_plugins, precision=precision) if plugged else build_engine
            records[name] = make(source, built[name], builder, chosen, timing_cache=cache, report=report)
            report(
                f"built      {name:13} {records[name].engine_bytes / 1e6:7.1f} MB  {records[name].build_seconds:6.1f} s"
            )
        if built and builder.card is not None and builder.card.capability in chosen:
            records = _compare(build, graphs, engines | built, records, precision, builder, report, load)
        elif built:
            report("note       no card here runs these engines: they were built and not compared; compare them there")
        for name, path in built.items():
            _put_in_place(path, engines[name], records[name])
    return records


def _build_with_plugins(
    source: Path,
    out: Path,
    builder: EngineBuilder,
    capabilities: tuple[int, ...],
    *,
    precision: str,
    timing_cache: Path | None,
    report: Report,
) -> EngineRecord:
    """As `build_engine`, with the fusion as the fused kernels; its manifest names the graph that `source` is."""
    plugged = out.with_suffix(".onnx")
    uses = with_plugins(
        source,
        plugged,
        capabilities[0],
        precision=precision,
        gpu=None if builder.card is None else builder.card.name,
        cast=None if precision == "float32" else partial(_cast_fuser, precision=precision),
    )
    register_plugins(uses)
    for use in uses:
        report(f"plugin     {use.operator} x {use.count}, {use.dtype}: {', '.join(use.plugins)}")
    record = build_engine(plugged, out, builder, capabilities, timing_cache=timing_cache, report=report)
    return replace(record, onnx_sha256=file_sha256(source), plugins=tuple(use.as_record() for use in uses))


def _cast_fuser(source: Path, out: Path, *, precision: str) -> object:
    return cast_stage(FUSER, source, out, precision)


def _compare(
    build: Path,
    graphs: Mapping[str, Path],
    engines: Mapping[str, Path],
    records: Mapping[str, EngineRecord],
    precision: str,
    builder: EngineBuilder,
    report: Report,
    load: Callable[[Path], LoadedEngine] | None,
) -> dict[str, EngineRecord]:
    if load is None:
        package = load_runtime(builder.flavour)

        def load(path: Path) -> LoadedEngine:
            return LoadedEngine(path, package)

    chosen: Callable[[Path], LoadedEngine] = load
    measured = pass_engine_gate(graphs, lambda name: chosen(engines[name]), build / "golden.npz", precision, report)
    return {
        name: replace(record, parity=tuple(row.as_record() for row in measured[name]))
        for name, record in records.items()
    }


def _put_in_place(built: Path, engine: Path, record: EngineRecord) -> None:
    """The engine first, then its manifest: one without the other never passes `check_engine`."""
    engine.parent.mkdir(parents=True, exist_ok=True)
    record_path(engine).unlink(missing_ok=True)
    built.replace(engine)
    write_record(engine, record)


def renew_engines(build: Path, report: Report, builder: EngineBuilder | None = None) -> dict[str, EngineRecord]:
    """Make the engines of a finished build fit this machine; those that do are kept.

    Args:
        builder: None: the package that the build's target asks for.
    Raises: ExportError when the folder is not a build with engines, a graph is not the one that was exported, the
        package is missing, or a build fails; ParityError when an engine's answers are wrong.
    """
    manifest = _read_manifest(build)
    target, fusion = manifest["target"], manifest["fusion"]
    fused = [fused_graph_path(build)] if fusion == "plugin" else []
    for graph in (*(graph_path(build, name) for name in STAGE_NAMES), *fused):
        listed = manifest["files"].get(graph.relative_to(build).as_posix())
        if not graph.is_file() or file_sha256(graph) != listed:
            raise ExportError(
                f"{graph.name}: missing, or not the graph that was exported. Write it again with: auralsam2 export"
            )
    builder = load_builder(ENGINE_FLAVOURS[target]) if builder is None else builder
    records = add_engines(
        build, target, tuple(manifest["capabilities"]), manifest["precision"], builder, report, fusion=fusion
    )
    manifest["engines"] = engine_entries(records)
    for name in STAGE_NAMES:
        engine = engine_path(build, target, name)
        for path in (engine, record_path(engine)):
            manifest["files"][path.relative_to(build).as_posix()] = file_sha256(path)
    write_whole(build / MANIFEST, memoryview((json.dumps(manifest, indent=2) + "\n").encode()))
    return records


def _read_manifest(build: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((build / MANIFEST).read_text())
    except (OSError, ValueError) as error:
        raise ExportError(
            f"{build} is not a build: {MANIFEST} cannot be read ({error}). Make one: auralsam2 export."
        ) from error
    if manifest.get("format") != BUILD_FORMAT:
        raise ExportError(
            f"{build} has a manifest of format {manifest.get('format')!r}; this version reads {BUILD_FORMAT}: masks"
            " of other builds may differ from the published network's. Export again: auralsam2 export."
        )
    if manifest.get("target") not in ENGINE_FLAVOURS:
        raise ExportError(
            f"{build} was exported for {manifest.get('target')}, which has no engines. Export with --target"
            f" {' or '.join(ENGINE_FLAVOURS)}."
        )
    return manifest


def engine_entries(records: Mapping[str, EngineRecord]) -> dict[str, dict[str, Any]]:
    """Describe engines as the manifest of a build has them."""
    return {name: asdict(record) for name, record in records.items()}
