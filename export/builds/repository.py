"""Fill a build folder: graphs that passed the gate, the model repository around them, manifest and golden clip.

The folder appears whole or not at all: everything is written beside it first, then renamed.
"""

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy.typing as npt

from auralsam2.model.sounding_sam2 import SoundingSAM2
from auralsam2_client.contract import CLASS_HEAD, STAGE_NAMES, TEXT_ENCODER
from export.builds.golden import write_golden
from export.builds.golden_requests import golden_requests, text_requests
from export.builds.graphs import export_graphs, graph_file, stages_of
from export.builds.manifest import manifest
from export.builds.models import write_models
from export.builds.pytorch_build import choose_device, fill_pytorch
from export.builds.served_precision import pass_engine_graphs, pass_in_some_precision
from export.engines.engine_graphs import FUSER, fused_graph_path
from export.engines.filling import MANIFEST, add_engines, engine_entries
from export.engines.tensorrt import EngineRecord, check_capabilities
from export.engines.tensorrt_builder import load_builder
from export.errors import ExportError
from export.gates.sample_clip import sample_audio, sample_frames
from export.gates.wire_gate import keeps_masks
from export.graphs.onnx_graph import export_stage
from export.loading import load_aural_sam2, load_class_head, load_model
from export.precision.precision_report import precision_report
from export.reports import Report
from export.settings import ExportSettings
from model_repository.stage_runtime.engine import check_precision, resolve_precision


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
    if partial.is_symlink():
        partial.unlink()
    shutil.rmtree(partial, ignore_errors=True)
    try:
        # Made here and now: what another put in its place would be written through.
        partial.mkdir(parents=True)
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
            f"{target.name} is not a build folder (it has no {MANIFEST}) and would be replaced. Name another folder, or"
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


def _fill(settings: ExportSettings, build: Path, report: Report) -> None:
    if settings.target == "cuda":
        _fill_in_pytorch(settings, build, report)
        return
    models = build / "models"
    wanted = settings.precision if settings.flavour is None else "float32"
    check_precision(settings.engine, resolve_precision(settings.engine, wanted))
    # Before the long work: without the package there is no engine.
    builder = None if settings.flavour is None else load_builder(settings.flavour)
    if builder is not None:
        check_capabilities(builder, settings.capabilities)
    report(f"export     {settings.name}: {settings.weights_sentence}")
    # Before the workers start, so that a checkpoint that does not fit is told at once, and once.
    model = load_model(settings)
    if settings.classes:
        load_class_head(settings)
    root = models if builder is None else build / "exported"
    seconds = export_graphs(settings, root, report)
    stages, graphs = (
        stages_of(settings, model),
        {name: graph_file(root, name) for name in (*STAGE_NAMES, *_beside(settings))},
    )
    clip = _sample_clip(settings)
    result, served_precision = pass_in_some_precision(settings, model, stages, graphs, clip, report)
    if settings.report:
        _write_report(settings, build, graphs, model, report)
    if builder is not None:
        result = pass_engine_graphs(settings, build, graphs, model, stages, clip, result, report)
        shutil.rmtree(root)
    requests = (*golden_requests(settings.num_frames, settings.size), *(text_requests() if settings.text else ()))
    write_golden(build / "golden.npz", clip, result, requests)
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
        write_models(settings, stages, models, served_precision, jpeg_keeps_masks=keeps_masks(result.jpeg_iou))
    record = manifest(settings, build, result.parity, seconds) | {"engines": engine_entries(engines)}
    if settings.target == "cpu":
        record |= {"precision": served_precision, "wire": {"jpeg_iou": result.jpeg_iou}}
    (build / MANIFEST).write_text(json.dumps(record, indent=2) + "\n")
    (build / "cache").mkdir(exist_ok=True)


def _beside(settings: ExportSettings) -> tuple[str, ...]:
    """Graphs that only some builds have, beside a stage's own."""
    asked = {CLASS_HEAD: settings.classes, TEXT_ENCODER: settings.text}
    return tuple(name for name, there in asked.items() if there)


def _fill_in_pytorch(settings: ExportSettings, build: Path, report: Report) -> None:
    # Before the long work: without a card there is nothing to compare on.
    choose_device(settings)
    report(f"export     {settings.name}: {settings.weights_sentence}")
    model, clip = load_aural_sam2(settings), _sample_clip(settings)
    result, card = fill_pytorch(settings, build, model, stages_of(settings, model), clip, report)
    write_golden(build / "golden.npz", clip, result, golden_requests(settings.num_frames, settings.size))
    record = manifest(settings, build, result.parity, {}) | {
        "device": settings.device,
        "layout": settings.layout,
        "wire": {"jpeg_iou": result.jpeg_iou},
        "card": {} if card is None else asdict(card),
    }
    (build / MANIFEST).write_text(json.dumps(record, indent=2) + "\n")
    (build / "cache").mkdir(exist_ok=True)


def _sample_clip(settings: ExportSettings) -> dict[str, npt.NDArray[Any]]:
    return {
        "FRAMES": sample_frames(settings.num_frames, settings.size),
        "AUDIO": sample_audio(settings.num_frames),
    }


def _write_report(
    settings: ExportSettings, build: Path, graphs: dict[str, Path], model: SoundingSAM2, report: Report
) -> None:
    found = precision_report(settings, graphs, model, report=report)
    (build / "precision_report.md").write_text(found.as_markdown())
    (build / "precision_report.json").write_text(json.dumps(found.as_record(), indent=2) + "\n")
