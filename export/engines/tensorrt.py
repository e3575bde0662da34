"""Engines from ONNX files, each with a manifest beside it that says where it may run and what it was made from.

An engine runs only where it was built for, and says little when it is loaded elsewhere. So a manifest lies beside each:
package, version, card, SHA-256 of the ONNX file and of the engine. `check_engine` compares them without a GPU. The
engine is renamed into place before its manifest, so that whatever interrupts a build, an engine that passes is whole.
"""

import json
import re
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from export.engines.memory_need import memory_need
from export.engines.tensorrt_builder import EngineBuilder, name_capabilities, write_whole
from export.errors import ExportError
from export.reports import Report
from model_repository.stage_runtime.engine import file_sha256

RECORD_FORMAT = 1


@dataclass(frozen=True)
class EngineRecord:
    """The manifest of an engine."""

    flavour: str
    version: str
    cuda: str
    capabilities: tuple[int, ...]
    gpu: str | None
    """TensorRT tunes for one model of card; None: runs on every card of the capabilities."""
    precision: str
    onnx_sha256: str
    engine_sha256: str
    engine_bytes: int
    build_seconds: float
    parity: tuple[dict[str, Any], ...] = field(default=())
    """Filled by the gate, on a machine that can run the engine."""
    plugins: tuple[dict[str, Any], ...] = field(default=())
    """The fused kernels that are compiled into it; empty: native operators alone."""


def record_path(engine: Path) -> Path:
    return engine.with_name(engine.name + ".json")


def write_record(engine: Path, record: EngineRecord) -> None:
    """Put the manifest beside its engine. Raises ExportError when the disk refuses."""
    text = json.dumps({"format": RECORD_FORMAT, **asdict(record)}, indent=2) + "\n"
    write_whole(record_path(engine), memoryview(text.encode()))


def read_record(engine: Path) -> EngineRecord:
    """Read the manifest of `engine`. Raises ExportError when it is missing, unreadable or of another format."""
    path = record_path(engine)
    try:
        entries: dict[str, Any] = json.loads(path.read_text())
        found = entries.pop("format")
        if found != RECORD_FORMAT:
            raise ExportError(f"{path.name}: format {found!r}; this version reads {RECORD_FORMAT}. {_again()}")
        for name in ("capabilities", "parity", "plugins"):
            entries[name] = tuple(entries[name])
        return EngineRecord(**entries)
    except FileNotFoundError as error:
        raise ExportError(f"{engine.name} has no manifest {path.name}: its build did not finish. {_again()}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ExportError(
            f"{path.name} is not an engine manifest ({type(error).__name__}: {error}). {_again()}"
        ) from error


def _again() -> str:
    return "Build the engine again."


def build_engine(
    onnx: Path,
    out: Path,
    builder: EngineBuilder,
    capabilities: tuple[int, ...] = (),
    *,
    onnx_sha256: str | None = None,
    timing_cache: Path | None = None,
    report: Report = lambda line: None,
) -> EngineRecord:
    """Build the engine of `onnx` as the file `out`, with its manifest beside it.

    Args:
        builder: see `load_builder`.
        capabilities: the compute capabilities the engine is to run on, e.g. (89, 120); empty: that of this machine's
            GPU. TensorRT itself takes no other.
        onnx_sha256: of the file that was exported, from its manifest; None: any file will do.
        timing_cache: a file of measured kernels that makes TensorRT's next build short; made when missing.
        report: gets the builder's warnings.
    Raises: ExportError naming what is wrong and the way out. `out` is then as it was before, and nothing else is left.
    """
    if not onnx.is_file():
        raise ExportError(f"{onnx.name}: no such ONNX file. Write it with: auralsam2 export")
    sha256 = file_sha256(onnx)
    if onnx_sha256 is not None and sha256 != onnx_sha256:
        raise ExportError(
            f"{onnx.name}: SHA-256 {sha256[:12]}, its manifest says {onnx_sha256[:12]}: the file was altered or cut"
            " short. Write it again with: auralsam2 export"
        )
    chosen = check_capabilities(builder, capabilities)
    _check_memory(onnx, builder)
    started = time.monotonic()
    built = builder.build(onnx, chosen, timing_cache)
    seconds = time.monotonic() - started
    for warning in built.warnings:
        report(f"warning    {onnx.name}: {warning}")
    write_whole(out, built.engine)
    record = EngineRecord(
        flavour=builder.flavour,
        version=builder.version,
        cuda=builder.cuda,
        capabilities=chosen,
        gpu=builder.card.name if builder.targets is None and builder.card else None,
        precision=built.precision,
        onnx_sha256=sha256,
        engine_sha256=file_sha256(out),
        engine_bytes=built.engine.nbytes,
        build_seconds=round(seconds, 2),
    )
    write_record(out, record)
    return record


def _check_memory(onnx: Path, builder: EngineBuilder) -> None:
    memory = builder.gpu_memory()
    if memory is None:
        return
    (free, total), need = memory, memory_need(onnx)
    if free < need.to_build:
        raise ExportError(
            f"not enough GPU memory to build {onnx.stem}: at least {need.to_build / 1e9:.1f} GB are needed"
            f" ({need.weights / 1e9:.1f} GB of weights, twice, and {need.activations / 1e9:.1f} GB of activations),"
            f" {free / 1e9:.1f} of {total / 1e9:.1f} GB are free. End what else runs on the card, or export fewer"
            " frames or smaller images."
        )


def check_capabilities(builder: EngineBuilder, wanted: tuple[int, ...]) -> tuple[int, ...]:
    """Sort the compute capabilities to build for. Raises ExportError for one that `builder` cannot build for."""
    here = () if builder.card is None else (builder.card.capability,)
    if builder.targets is None:
        if not here:
            raise ExportError(
                f"{builder.flavour} builds on the GPU that will run the engine, and there is none here. Build there, or"
                " build with tensorrt_rtx for a named compute capability."
            )
        if wanted not in ((), here):
            raise ExportError(
                f"{builder.flavour} builds for the GPU it finds, compute capability {here[0]}, not for"
                f" {name_capabilities(wanted)}. Build there, or build with tensorrt_rtx."
            )
        return here
    known = name_capabilities(builder.targets)
    chosen = tuple(sorted(set(wanted or here)))
    if not chosen:
        raise ExportError(f"there is no GPU here; name the compute capability to build for: {known}.")
    unknown = [each for each in chosen if each not in builder.targets]
    if unknown:
        raise ExportError(
            f"compute capability {name_capabilities(unknown)}: {builder.flavour} {builder.version} builds for"
            f" {known}. For other cards, build with tensorrt on the GPU itself."
        )
    return chosen


def parse_capability(text: str) -> int:
    """Parse "89", "8.9" or "sm_89" as 89, "12.0" as 120. Raises ExportError for anything else."""
    match = re.fullmatch(r"(?:sm_?)?(\d{1,2})\.?(\d)", text.strip().lower())
    if match is None:
        raise ExportError(f"compute capability {text!r}; write it as 8.9 or 89.")
    return int(match[1] + match[2])


def check_engine(
    engine: Path, builder: EngineBuilder, capabilities: tuple[int, ...] = (), *, onnx: Path | None = None
) -> EngineRecord:
    """Read the manifest of an engine that is whole and fits.

    Args:
        builder: the package that is installed here, which will load the engine.
        capabilities: the cards it must run on; empty: this machine's.
        onnx: the graph it must have been built from; None: any.
    Raises: ExportError where it was built for another card, package, version or graph, or is not whole.
    """
    if not engine.is_file():
        raise ExportError(f"{engine.name}: no such engine. Build it first.")
    record = read_record(engine)
    size = engine.stat().st_size
    if size != record.engine_bytes or file_sha256(engine) != record.engine_sha256:
        raise ExportError(
            f"{engine.name} is not the engine its manifest describes ({size} bytes, written as {record.engine_bytes}):"
            f" half-written or altered. {_again()}"
        )
    if (record.flavour, record.version) != (builder.flavour, builder.version):
        raise ExportError(
            f"{engine.name} was built by {record.flavour} {record.version}; here is {builder.flavour}"
            f" {builder.version}, and an engine runs on its own version only. {_again()}"
        )
    wanted = capabilities or (() if builder.card is None else (builder.card.capability,))
    if not set(wanted) <= set(record.capabilities):
        raise ExportError(
            f"{engine.name} was built for compute capability {name_capabilities(record.capabilities)}, not for"
            f" {name_capabilities(wanted)}. {_again()}"
        )
    if record.gpu is not None and (builder.card is None or record.gpu != builder.card.name):
        here = "no GPU" if builder.card is None else builder.card.name
        raise ExportError(f"{engine.name} was built for {record.gpu}; here is {here}. {_again()}")
    if onnx is not None and (found := file_sha256(onnx)) != record.onnx_sha256:
        raise ExportError(
            f"{engine.name} was built from the ONNX file {record.onnx_sha256[:12]}; {onnx.name} is {found[:12]}."
            f" {_again()}"
        )
    return record
