"""Fill a build folder: graphs that passed the gate, the model repository around them, manifest and golden clip.

The folder appears whole or not at all: everything is written beside it first, then renamed.
"""

import importlib.metadata
import json
import os
import platform
import shutil
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import auralsam2_client.contract
from auralsam2 import AuralSAM2
from auralsam2.checkpoints import fetch
from auralsam2.network.readout import NO_OBJECT_LOGIT
from auralsam2_client.contract import BUILD_FORMAT, DECODER, ENSEMBLE, FEATURES_ENSEMBLE, SESSION, STAGE_NAMES
from export.builds.triton_config import TEMPLATES, check_stage, render, render_gpu
from export.engines.engine_graphs import FUSER, fused_graph_path, graph_path, load_on_cpu, write_engine_graphs
from export.engines.filling import MANIFEST, add_engines, engine_entries
from export.engines.tensorrt import EngineRecord, check_capabilities
from export.engines.tensorrt_builder import load_builder
from export.errors import ExportError, ParityError
from export.gates.parity import OutputParity
from export.gates.prompt_gate import pass_prompt_gate
from export.gates.sample_clip import sample_audio, sample_frames
from export.gates.stage_gate import Passed, pass_gate
from export.graphs.onnx_graph import OPSET, export_stage
from export.graphs.prompt_graphs import export_prompt_graphs
from export.graphs.stages import Stage, build_stages
from export.precision.precision_report import precision_report
from export.precision.quantization import (
    QUANTISED,
    SCOPES,
    calibration,
    check_mask_iou,
    mask_iou,
    quantise_stages,
)
from export.reports import Report
from export.settings import ExportSettings, load_model
from model_repository.stage_runtime.engine import (
    AUTO,
    INT8,
    Engine,
    check_precision,
    file_sha256,
    load_engine,
    resolve_precision,
)
from model_repository.stage_runtime.prompts.decoder import WEIGHTS

RUNTIME = "stage_runtime"
PROMPTS = "prompts"
# Hiera on CPU: one frame a call is faster than a batch of five (2.2 against 2.65 s a frame at 1024 px, B+, bfloat16).
HIERA_FRAMES_PER_CALL = 1
VERSIONED_PACKAGES = ("torch", "sam2", "onnx", "onnxscript", "onnxruntime", "openvino", "numpy")
GOLDEN_SHARE_OF_SPREAD = 0.02
GOLDEN_SHARE_OF_MEASURED = 10


def build_repository(settings: ExportSettings, out: Path, report: Report = lambda line: None) -> Path:
    """Export `settings` into the build folder `out`.

    Args:
        out: the folder to write; an existing build there is replaced once the new one is complete.
        report: gets a line of progress after each step.
    Returns: `out`.
    Raises: ExportError, ParityError, NetworkError or EngineError; `out` is then as it was before.
    """
    target = out.resolve()
    _check_replaceable(target)
    partial = target.with_name(f".{target.name}.partial-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        _fill(settings, partial, report)
        _replace(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    report(f"build      {out}")
    return out


def _check_replaceable(target: Path) -> None:
    """What stands at `target` will be deleted, so it must be a build, or nothing."""
    if not target.exists() or (target / MANIFEST).is_file():
        return
    if not target.is_dir() or any(target.iterdir()):
        raise ExportError(
            f"{target.name} is no build folder (it has no {MANIFEST}) and would be replaced. Name another folder, or"
            " remove this one yourself."
        )


def _replace(partial: Path, out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    for path in partial.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    if out.exists():
        old = out.with_name(f".{out.name}.old-{os.getpid()}")
        out.rename(old)
        try:
            partial.rename(out)
        except OSError:
            old.rename(out)
            raise
        shutil.rmtree(old)
    else:
        partial.rename(out)


def _stages(settings: ExportSettings, model: AuralSAM2) -> tuple[Stage, ...]:
    whole_clips = settings.target != "cpu"
    frames_per_call = settings.num_frames if whole_clips else HIERA_FRAMES_PER_CALL
    return build_stages(
        model,
        settings.num_frames,
        settings.conditioning_frame,
        settings.read_out,
        frames_per_call,
        hands_on_tokens=whole_clips,
        for_cpu=not whole_clips,
    )


@cache
def _worker_model(settings: ExportSettings) -> AuralSAM2:
    """A worker process exports several stages and ends with the export; the checkpoint is read once in it."""
    return load_model(settings)


@cache
def _worker_stages(settings: ExportSettings) -> tuple[Stage, ...]:
    return _stages(settings, _worker_model(settings))


def _export_one(settings: ExportSettings, name: str, path: Path) -> tuple[str, float]:
    """Runs in a worker process: export one stage, return its name and the seconds it took."""
    started = time.monotonic()
    if name == PROMPTS:
        export_prompt_graphs(_worker_model(settings), settings.num_frames, path.parent)
        return name, time.monotonic() - started
    stage = next(stage for stage in _worker_stages(settings) if stage.name == name)
    export_stage(stage, path)
    return name, time.monotonic() - started


def _export_graphs(settings: ExportSettings, root: Path, report: Report) -> dict[str, float]:
    """All graphs, two at a time: tracing is one thread, and the decoder takes as long as the other three stages."""
    workers = min(2, os.cpu_count() or 1)
    seconds: dict[str, float] = {}
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        # The slowest first.
        names = [*reversed(STAGE_NAMES)]
        if settings.target == "cpu":
            names.insert(1, PROMPTS)
        jobs = [pool.submit(_export_one, settings, name, _graph(root, name)) for name in names]
        for job in as_completed(jobs):
            name, taken = job.result()
            seconds[name] = round(taken, 1)
            file = _graph(root, name) if name != PROMPTS else _graph(root, name).with_name(WEIGHTS)
            report(f"exported   {name:13} {file.stat().st_size / 1e6:7.1f} MB  {taken:5.1f} s")
    return seconds


def _graph(root: Path, name: str) -> Path:
    """A stage's graph. Those of the prompts lie beside the decoder's."""
    return root / (DECODER if name == PROMPTS else name) / "1" / "model.onnx"


def _fill(settings: ExportSettings, build: Path, report: Report) -> None:
    models = build / "models"
    asked = settings.precision if settings.flavour is None else "float32"
    check_precision(settings.engine, resolve_precision(settings.engine, asked))
    # Before the long work: without the package there is no engine.
    builder = None if settings.flavour is None else load_builder(settings.flavour)
    if builder is not None:
        check_capabilities(builder, settings.capabilities)
    report(f"export     {settings.name}: {settings.weights_sentence}")
    # Before the workers start, so that a checkpoint that does not fit is told at once, and once.
    model = load_model(settings)
    root = models if builder is None else build / "exported"
    seconds = _export_graphs(settings, root, report)
    stages, graphs = _stages(settings, model), {name: _graph(root, name) for name in STAGE_NAMES}
    clip: dict[str, npt.NDArray[Any]] = {
        "FRAMES": sample_frames(settings.num_frames, settings.size),
        "AUDIO": sample_audio(settings.num_frames),
    }

    passed, served = _pass_in_some_precision(settings, model, stages, graphs, clip, report)
    if settings.report:
        _write_report(settings, build, graphs, model, report)
    if builder is not None:
        passed = _narrow(settings, build, graphs, model, stages, clip, passed, report)
        shutil.rmtree(root)
    tolerances = {f"TOLERANCE_{name}": golden_tolerance(passed, name) for name in passed.network}
    np.savez_compressed(build / "golden.npz", allow_pickle=False, **clip, **passed.network, **tolerances)
    engines: dict[str, EngineRecord] = {}
    if builder is not None:
        if settings.fusion == "plugin":
            export_stage(next(stage for stage in stages if stage.name == FUSER), fused_graph_path(build), inlined=False)
        engines = add_engines(
            build,
            settings.target,
            settings.capabilities,
            settings.precision,
            builder,
            report,
            fusion=settings.fusion,
        )
    if settings.target != "tensorrt-rtx":
        _write_models(settings, stages, models, served)
    manifest = _manifest(settings, build, passed.parity, seconds) | {"engines": engine_entries(engines)}
    if settings.target == "cpu":
        manifest["precision"] = served
    (build / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
    (build / "cache").mkdir(exist_ok=True)


def _pass_in_some_precision(
    settings: ExportSettings,
    model: AuralSAM2,
    stages: tuple[Stage, ...],
    graphs: dict[str, Path],
    clip: dict[str, npt.NDArray[Any]],
    report: Report,
) -> tuple[Passed, str]:
    """The gate, and the precision that the CPU's stages are served in.

    That is "auto" only where bfloat16 passed: then another CPU may take float32, which errs less. Where bfloat16 was
    not tried, or did not pass, no other CPU may choose it.
    """

    def gate(precision: str) -> Passed:
        def load(name: str) -> Engine:
            return load_engine(settings.engine, graphs[name], precision=precision, keep_memory=False)

        passed = pass_gate(settings, model, stages, load, precision, clip, report)
        _pass_prompts(settings, model, graphs, precision, passed, report)
        return passed

    asked = "float32" if settings.flavour is not None else settings.precision
    if asked == INT8:
        return _pass_in_int8(settings, model, stages, graphs, clip, report), INT8
    found = resolve_precision(settings.engine, asked)
    if asked != AUTO or found == "float32":
        return gate(found), found
    try:
        return gate(found), AUTO
    except ParityError as error:
        report(f"note       float32 instead of {found}, which did not pass: {error}")
        return gate("float32"), "float32"


def _pass_prompts(
    settings: ExportSettings,
    model: AuralSAM2,
    graphs: dict[str, Path],
    precision: str,
    passed: Passed,
    report: Report,
) -> None:
    """Add to `passed` what the graphs of prompts, which builds for a CPU have beside the decoder's, are measured at."""
    if settings.target == "cpu":
        folder = graphs[DECODER].parent
        passed.parity.extend(pass_prompt_gate(settings, model, folder, precision, passed.features, report))


def _pass_in_int8(
    settings: ExportSettings,
    model: AuralSAM2,
    stages: tuple[Stage, ...],
    graphs: dict[str, Path],
    clip: dict[str, npt.NDArray[Any]],
    report: Report,
) -> Passed:
    """Quantise as much as the gate lets pass, and put it in the place of the graphs that it came from.

    Raises: ParityError when not even the narrowest scope passes.
    """
    samples = calibration(stages, graphs, settings.num_frames, settings.size)
    with tempfile.TemporaryDirectory() as folder:
        for scope in SCOPES:
            narrow = quantise_stages(graphs, samples, scope, Path(folder), report)

            def load(name: str, narrow: dict[str, Path] = narrow) -> Engine:
                return load_engine(settings.engine, narrow[name], precision=INT8)

            try:
                passed = pass_gate(settings, model, stages, load, INT8, clip, report)
                agreement = mask_iou(stages, graphs, narrow, settings.num_frames, settings.size)
                report(f"checked    int8          masks' IoU with float32's on held-out clips {agreement:.4f}")
                check_mask_iou(agreement, scope)
                _pass_prompts(settings, model, graphs, INT8, passed, report)
            except ParityError as error:
                if scope == SCOPES[-1]:
                    raise
                report(f"note       {scope} did not pass: {error}")
            else:
                for name in QUANTISED:
                    shutil.copy2(narrow[name], graphs[name])
                return passed
    raise AssertionError("the last scope returns or raises")


def _write_report(
    settings: ExportSettings, build: Path, graphs: dict[str, Path], model: AuralSAM2, report: Report
) -> None:
    found = precision_report(settings, graphs, model, report=report)
    (build / "precision_report.md").write_text(found.as_markdown())
    (build / "precision_report.json").write_text(json.dumps(found.as_record(), indent=2) + "\n")


def _narrow(
    settings: ExportSettings,
    build: Path,
    graphs: dict[str, Path],
    model: AuralSAM2,
    stages: tuple[Stage, ...],
    clip: dict[str, npt.NDArray[Any]],
    passed: Passed,
    report: Report,
) -> Passed:
    """Write the graphs of the engines; where they are narrower than those that passed, they have to pass as well."""
    narrow = write_engine_graphs(graphs, build, settings.precision, report)
    if settings.precision == "float32":
        return passed
    folder = build / "emulated"

    def load(name: str) -> Engine:
        return load_on_cpu(narrow[name], settings.precision, folder)

    report(f"note       the graphs in {settings.precision} follow, emulated on the CPU")
    try:
        return pass_gate(settings, model, stages, load, settings.precision, clip, report)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def golden_tolerance(passed: Passed, name: str) -> npt.NDArray[np.float32]:
    """How far an output of the served golden answer may be from the network's, max abs.

    Ten times what was measured here, since another CPU adds in another order; at least a fiftieth of the spread.
    """
    wanted, found = passed.network[name], passed.graphs[name]
    # Where only one of the two reads a frame as empty, the difference is a thousand and would forgive everything.
    masks = (wanted > NO_OBJECT_LOGIT) & (found > NO_OBJECT_LOGIT)
    floor = GOLDEN_SHARE_OF_SPREAD * (float(wanted[masks].std()) if masks.any() else 1.0)
    measured = float(np.abs(found - wanted)[masks].max()) if masks.any() else 0.0
    return np.asarray(max(floor, GOLDEN_SHARE_OF_MEASURED * measured), np.float32)


def _write_models(settings: ExportSettings, stages: tuple[Stage, ...], models: Path, precision: str) -> None:
    """Beside each graph: its configuration and, for a CPU, its model.py and the runtime that both need."""
    for stage in stages:
        folder = models / stage.name
        graph = graph_path(models.parent, stage.name) if settings.target == "tensorrt" else _graph(models, stage.name)
        sha256 = file_sha256(graph)
        if settings.target == "cpu":
            _write_code(stage.name, folder)
            text = render(
                settings, stage.name, frames_per_call=stage.frames_per_call, sha256=sha256, precision=precision
            )
        else:
            text = render_gpu(settings, stage, sha256)
        check_stage(text, stage)
        (folder / "config.pbtxt").write_text(text)
    without_graph = (ENSEMBLE, FEATURES_ENSEMBLE, SESSION) if settings.target == "cpu" else (ENSEMBLE,)
    for name in without_graph:
        (models / name / "1").mkdir(parents=True)
        (models / name / "config.pbtxt").write_text(render(settings, name, precision=precision))
    if SESSION in without_graph:
        _write_code(SESSION, models / SESSION)


def _write_code(name: str, folder: Path) -> None:
    """A Python model's model.py, and beside it the runtime and the contract, by the names under which it has them."""
    shutil.copy2(TEMPLATES / name / "1" / "model.py", folder / "1" / "model.py")
    shutil.copytree(TEMPLATES / RUNTIME, folder / "1" / RUNTIME, ignore=shutil.ignore_patterns("__pycache__"))
    # A package of one module: what else the client has is not there.
    source = Path(auralsam2_client.contract.__file__)
    package = folder / "1" / source.parent.name
    package.mkdir()
    (package / "__init__.py").touch()
    shutil.copy2(source, package)


def _manifest(
    settings: ExportSettings, build: Path, parity: list[OutputParity], seconds: dict[str, float]
) -> dict[str, Any]:
    files = sorted(path for path in build.rglob("*") if path.is_file())
    return {
        "format": BUILD_FORMAT,
        "name": settings.name,
        "preset": settings.preset,
        "image_size": settings.size,
        "num_frames": settings.num_frames,
        "conditioning_frame": settings.conditioning_frame,
        "read_out": settings.read_out,
        "target": settings.target,
        "engine": settings.engine,
        "precision": settings.precision,
        "fusion": settings.fusion,
        "capabilities": list(settings.capabilities),
        "weights": settings.weights_sentence,
        "checkpoint_sha256": _checkpoint_hash(settings.weights_file),
        "sam2_checkpoint_sha256": _checkpoint_hash(settings.sam2_checkpoint),
        "opset": OPSET,
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in VERSIONED_PACKAGES},
        },
        "export_seconds": seconds,
        "parity": [p.as_record() for p in parity],
        "files": {path.relative_to(build).as_posix(): file_sha256(path) for path in files},
    }


def _checkpoint_hash(reference: str | None) -> str | None:
    return None if reference is None else file_sha256(fetch(reference))
