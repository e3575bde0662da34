"""Fill a build folder: four graphs that passed the gate, the model repository around them, manifest and golden clip.

The folder appears whole or not at all: everything is written beside it first, then renamed.
"""

import importlib.metadata
import json
import os
import platform
import shutil
import string
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from google.protobuf import text_format
from torch import Tensor
from tritonclient.grpc import model_config_pb2

import model_repository
from auralsam2.log_mel import LogMel
from auralsam2.presets import STRIDE
from export.errors import ExportError
from export.onnx_graph import OPSET, export_stage
from export.parity import MASK_AGREEMENT, OutputParity, check, compare, run_engine, run_network
from export.sample_clip import sample_audio, sample_frames
from export.settings import ExportSettings, load_model
from export.stages import STAGE_NAMES, Stage, build_stages
from model_repository.stage_runtime.engine import file_sha256, load_engine

TEMPLATES = Path(model_repository.__file__).parent
ENSEMBLE = "auralsam2"
# Hiera on CPU: one frame a call is faster than a batch of five (2.2 against 2.65 s a frame at 1024 px, B+, bfloat16).
HIERA_FRAMES_PER_CALL = 1
MANIFEST_FORMAT = 1
VERSIONED_PACKAGES = ("torch", "sam2", "onnx", "onnxscript", "onnxruntime", "openvino", "numpy")
# The golden answer may differ between CPUs; beyond this share of the logits' spread it is another answer.
GOLDEN_TOLERANCE = {"float32": 0.05, "bfloat16": 1.0}

Report = Callable[[str], None]


def build_repository(settings: ExportSettings, out: Path, report: Report = lambda line: None) -> Path:
    """Export `settings` into the build folder `out`.

    Args:
        out: the folder to write; an existing build there is replaced once the new one is complete.
        report: gets a line of progress after each step.
    Returns: `out`.
    Raises: ExportError, ParityError or NetworkError; `out` is then as it was before.
    """
    partial = out.with_name(f".{out.name}.partial-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        _fill(settings, partial, report)
        _replace(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    report(f"build      {out}")
    return out


def _replace(partial: Path, out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    for path in partial.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    if out.exists():
        old = out.with_name(f".{out.name}.old-{os.getpid()}")
        out.rename(old)
        partial.rename(out)
        shutil.rmtree(old)
    else:
        partial.rename(out)


@cache
def _stages(settings: ExportSettings) -> tuple[Stage, ...]:
    return build_stages(
        load_model(settings), settings.num_frames, settings.conditioning_frame, settings.read_out, HIERA_FRAMES_PER_CALL
    )


def _export_one(settings: ExportSettings, name: str, path: Path) -> tuple[str, float]:
    """Runs in a worker process: export one stage, return its name and the seconds it took."""
    started = time.monotonic()
    stage = next(stage for stage in _stages(settings) if stage.name == name)
    export_stage(stage, path)
    return name, time.monotonic() - started


def _export_graphs(settings: ExportSettings, models: Path, report: Report) -> dict[str, float]:
    """All four graphs, two at a time: tracing is one Python thread, and the decoder takes as long as the other three."""
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
    report(f"export     {settings.name}: {settings.weights_sentence}")
    seconds = _export_graphs(settings, models, report)
    frames = sample_frames(settings.num_frames, settings.size)
    audio = sample_audio(settings.num_frames)
    parity, masks = _gate(settings, models, frames, audio, report)
    for name in STAGE_NAMES:
        shutil.copy2(TEMPLATES / name / "1" / "model.py", models / name / "1" / "model.py")
        runtime = models / name / "1" / "stage_runtime"
        shutil.copytree(TEMPLATES / "stage_runtime", runtime, ignore=shutil.ignore_patterns("__pycache__"))
    (models / ENSEMBLE / "1").mkdir(parents=True)
    for name in (*STAGE_NAMES, ENSEMBLE):
        (models / name / "config.pbtxt").write_text(render_config(settings, name, _graph(models, name)))
    tolerance = GOLDEN_TOLERANCE[settings.precision] * float(masks.std() or 1.0)
    np.savez_compressed(
        build / "golden.npz", FRAMES=frames, AUDIO=audio, MASK_LOGITS=masks, TOLERANCE=np.float32(tolerance)
    )
    manifest = _manifest(settings, build, parity, seconds)
    (build / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
    (build / "cache").mkdir()


def _gate(
    settings: ExportSettings, models: Path, frames: np.ndarray[Any, Any], audio: np.ndarray[Any, Any], report: Report
) -> tuple[list[OutputParity], np.ndarray[Any, Any]]:
    """Compare each file on disk, stage by stage on the network's own inputs, then the chain; return the golden masks."""
    wire: dict[str, Tensor] = {"FRAMES": torch.from_numpy(frames), "AUDIO": torch.from_numpy(audio)}
    chain: dict[str, Any] = {"FRAMES": frames, "AUDIO": audio}
    measured: list[OutputParity] = []
    for stage in _stages(settings):
        engine = load_engine(settings.engine, _graph(models, stage.name), precision=settings.precision)
        names = [spec.name for spec in stage.inputs]
        wanted = run_network(stage, {name: wire[name] for name in names})
        found = run_engine(engine, stage, {name: wire[name].numpy() for name in names})
        last = stage.name == STAGE_NAMES[-1]
        for name, value in wanted.items():
            parity = compare(stage.name, name, found[name], value.numpy())
            check(parity, settings.precision, last)
            measured.append(parity)
        worst = max((p for p in measured if p.stage == stage.name), key=lambda p: p.relative_rms)
        report(f"checked    {stage.name:13} {worst.output} relative RMS {worst.relative_rms:.1e}")
        wire |= wanted
        chain |= run_engine(engine, stage, {name: chain[name] for name in names})
        del engine
    masks = wire["MASK_LOGITS"].numpy()
    whole = compare("auralsam2", "MASK_LOGITS", chain["MASK_LOGITS"], masks)
    check(whole, settings.precision, last_stage=True)
    measured.append(whole)
    report(f"checked    whole chain   masks agree on {whole.mask_agreement:.3%} of the pixels"
           f" (at least {MASK_AGREEMENT[settings.precision]:.1%})")
    _check_against_model(settings, frames, audio, masks)
    return measured, masks


def _check_against_model(
    settings: ExportSettings, frames: np.ndarray[Any, Any], audio: np.ndarray[Any, Any], masks: np.ndarray[Any, Any]
) -> None:
    """The stages in PyTorch are the network cut in four: their masks must be those of the uncut network."""
    from auralsam2 import image_encoder

    with torch.no_grad():
        clip = load_model(settings)(
            image_encoder.normalise(torch.from_numpy(frames)),
            LogMel()(torch.from_numpy(audio)),
            conditioning_frame=settings.conditioning_frame,
        )
    parity = compare("stages", "MASK_LOGITS", masks, clip.select(settings.read_out).numpy())
    check(parity, "float32", last_stage=True)


def render_config(settings: ExportSettings, name: str, graph: Path) -> str:
    """The `config.pbtxt` of one model, filled in and understood by Triton's own schema.

    Raises: ExportError when the template has an unknown placeholder or is no valid ModelConfig.
    """
    from auralsam2.presets import preset

    width, size = preset(settings.preset).width, settings.size
    values: dict[str, Any] = {
        "T": settings.num_frames,
        "S": size,
        "S_4": size // STRIDE * 4,
        "S_8": size // STRIDE * 2,
        "S_16": size // STRIDE,
        "C": width,
        "C_4": width // 4,
        "C_8": width // 8,
        "engine": settings.engine,
        "precision": settings.precision,
        "frames_per_call": HIERA_FRAMES_PER_CALL if name == "hiera" else settings.num_frames,
    }
    if graph.is_file():
        values["sha256"] = file_sha256(graph)
    lines = (TEMPLATES / name / "config.pbtxt").read_text().splitlines(keepends=True)
    head = f"# Written by auralsam2 export for {settings.name}.\n"
    body = "".join(line for line in lines if not line.startswith("# Template."))
    try:
        text = head + string.Template(body).substitute(values)
        config = text_format.Parse(text, model_config_pb2.ModelConfig())
    except (KeyError, ValueError, text_format.ParseError) as error:
        raise ExportError(f"{name}/config.pbtxt: {error!r}. Mend the template in model_repository/{name}.") from error
    if config.name != name:
        raise ExportError(f"{name}/config.pbtxt names the model {config.name!r}; it must be {name!r}.")
    return text


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
        "engine": settings.engine,
        "precision": settings.precision,
        "weights": settings.weights_sentence,
        "checkpoint_sha256": _checkpoint_hash(settings),
        "opset": OPSET,
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in VERSIONED_PACKAGES},
        },
        "export_seconds": seconds,
        "parity": [p.as_record() for p in parity],
        "files": {path.relative_to(build).as_posix(): file_sha256(path) for path in files},
    }


def _checkpoint_hash(settings: ExportSettings) -> str | None:
    if settings.checkpoint is None:
        return None
    from auralsam2.checkpoints import fetch

    return file_sha256(fetch(settings.checkpoint))
