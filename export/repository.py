"""Fill a build folder: four graphs that passed the gate, the model repository around them, manifest and golden clip.

The folder appears whole or not at all: everything is written beside it first, then renamed.
"""

import importlib.metadata
import json
import os
import platform
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from auralsam2 import AuralSAM2
from auralsam2.checkpoints import fetch
from auralsam2.readout import NO_OBJECT_LOGIT
from export.errors import ExportError
from export.gate import Passed, pass_gate
from export.onnx_graph import OPSET, export_stage
from export.parity import OutputParity
from export.sample_clip import sample_audio, sample_frames
from export.settings import ExportSettings, load_model
from export.stages import STAGE_NAMES, Stage, build_stages
from export.triton_config import TEMPLATES, check_stage, render, render_gpu
from model_repository.stage_runtime.engine import check_precision, file_sha256

RUNTIME = "stage_runtime"
ENSEMBLE = "auralsam2"
# Hiera on CPU: one frame a call is faster than a batch of five (2.2 against 2.65 s a frame at 1024 px, B+, bfloat16).
HIERA_FRAMES_PER_CALL = 1
MANIFEST = "manifest.json"
MANIFEST_FORMAT = 1
VERSIONED_PACKAGES = ("torch", "sam2", "onnx", "onnxscript", "onnxruntime", "openvino", "numpy")
GOLDEN_SHARE_OF_SPREAD = 0.02
GOLDEN_SHARE_OF_MEASURED = 10

Report = Callable[[str], None]


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
        model, settings.num_frames, settings.conditioning_frame, settings.read_out, frames_per_call, whole_clips
    )


@cache
def _worker_stages(settings: ExportSettings) -> tuple[Stage, ...]:
    """A worker process exports several stages and ends with the export; the checkpoint is read once in it."""
    return _stages(settings, load_model(settings))


def _export_one(settings: ExportSettings, name: str, path: Path) -> tuple[str, float]:
    """Runs in a worker process: export one stage, return its name and the seconds it took."""
    started = time.monotonic()
    stage = next(stage for stage in _worker_stages(settings) if stage.name == name)
    export_stage(stage, path)
    return name, time.monotonic() - started


def _export_graphs(settings: ExportSettings, models: Path, report: Report) -> dict[str, float]:
    """All four graphs, two at a time: tracing is one thread, and the decoder takes as long as the other three."""
    workers = min(2, os.cpu_count() or 1)
    seconds: dict[str, float] = {}
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        # The slowest first.
        jobs = [pool.submit(_export_one, settings, name, _graph(models, name)) for name in reversed(STAGE_NAMES)]
        for job in as_completed(jobs):
            name, taken = job.result()
            seconds[name] = round(taken, 1)
            report(f"exported   {name:13} {_graph(models, name).stat().st_size / 1e6:7.1f} MB  {taken:5.1f} s")
    return seconds


def _graph(models: Path, name: str) -> Path:
    return models / name / "1" / "model.onnx"


def _fill(settings: ExportSettings, build: Path, report: Report) -> None:
    models = build / "models"
    check_precision(settings.engine, settings.precision)
    report(f"export     {settings.name}: {settings.weights_sentence}")
    # Before the workers start, so that a checkpoint that does not fit is told at once, and once.
    model = load_model(settings)
    seconds = _export_graphs(settings, models, report)
    stages, graphs = _stages(settings, model), {name: _graph(models, name) for name in STAGE_NAMES}
    clip: dict[str, npt.NDArray[Any]] = {
        "FRAMES": sample_frames(settings.num_frames, settings.size),
        "AUDIO": sample_audio(settings.num_frames),
    }
    passed = pass_gate(settings, model, stages, graphs, clip, report)
    _write_models(settings, stages, models)
    tolerances = {f"TOLERANCE_{name}": golden_tolerance(passed, name) for name in passed.network}
    np.savez_compressed(build / "golden.npz", allow_pickle=False, **clip, **passed.network, **tolerances)
    manifest = _manifest(settings, build, passed.parity, seconds)
    (build / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
    (build / "cache").mkdir()


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


def _write_models(settings: ExportSettings, stages: tuple[Stage, ...], models: Path) -> None:
    """Beside each graph: its configuration and, for a CPU, its model.py and the runtime that both need."""
    for stage in stages:
        folder = models / stage.name
        sha256 = file_sha256(_graph(models, stage.name))
        if settings.target == "cpu":
            shutil.copy2(TEMPLATES / stage.name / "1" / "model.py", folder / "1" / "model.py")
            runtime = folder / "1" / RUNTIME
            shutil.copytree(TEMPLATES / RUNTIME, runtime, ignore=shutil.ignore_patterns("__pycache__"))
            text = render(settings, stage.name, frames_per_call=stage.frames_per_call, sha256=sha256)
        else:
            text = render_gpu(settings, stage, sha256)
        check_stage(text, stage)
        (folder / "config.pbtxt").write_text(text)
    (models / ENSEMBLE / "1").mkdir(parents=True)
    (models / ENSEMBLE / "config.pbtxt").write_text(render(settings, ENSEMBLE))


def _manifest(
    settings: ExportSettings, build: Path, parity: list[OutputParity], seconds: dict[str, float]
) -> dict[str, Any]:
    files = sorted(path for path in build.rglob("*") if path.is_file())
    return {
        "format": MANIFEST_FORMAT,
        "name": settings.name,
        "preset": settings.preset,
        "image_size": settings.size,
        "num_frames": settings.num_frames,
        "conditioning_frame": settings.conditioning_frame,
        "read_out": settings.read_out,
        "target": settings.target,
        "engine": settings.engine,
        "precision": settings.precision,
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
