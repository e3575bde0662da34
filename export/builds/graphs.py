"""A build's graphs, exported in two worker processes.

Those of the stages, and for a CPU those of the prompts, of classes and of text, which lie beside a stage's own.
"""

import json
import os
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from multiprocessing import get_context
from pathlib import Path

from auralsam2.model.sounding_sam2 import SoundingSAM2
from auralsam2.presets import preset
from auralsam2.stages.class_stage import class_stage
from auralsam2.stages.clip_stages import Stage, build_stages
from auralsam2.stages.text_stage import text_stage
from auralsam2_client.contract import CLASS_HEAD, DECODER, FUSER, STAGE_NAMES, TEXT_ENCODER, VOCABULARY
from export.graphs.onnx_graph import export_stage
from export.graphs.prompt_graphs import export_prompt_graphs
from export.loading import load_aural_sam2, load_class_head, load_model, load_text_encoder
from export.reports import Report
from export.settings import ExportSettings
from model_repository.stage_runtime.prompts.decoder import WEIGHTS

PROMPTS = "prompts"
# Hiera on CPU: one frame a call is faster than a batch of five (2.2 against 2.65 s a frame at 1024 px, B+, bfloat16).
HIERA_FRAMES_PER_CALL = 1


def stages_of(settings: ExportSettings, model: SoundingSAM2) -> tuple[Stage, ...]:
    """Divide the network into stages for the build's target: hiera takes one frame a call on a CPU, else the clip."""
    on_cpu = settings.target == "cpu"
    frames_per_call = HIERA_FRAMES_PER_CALL if on_cpu else settings.num_frames
    return build_stages(
        model,
        settings.num_frames,
        settings.conditioning_frame,
        settings.read_out,
        frames_per_call,
        hands_on_tokens=not settings.in_python,
        for_cpu=on_cpu,
        takes_words=settings.text,
    )


def class_stage_of(settings: ExportSettings) -> Stage:
    """Make the stage that names what is in the masks. Raises: CheckpointError as `load_class_head`."""
    head, _ = load_class_head(settings)
    return class_stage(head, preset(settings.preset), settings.num_frames, settings.size)


def text_stage_of(settings: ExportSettings) -> Stage:
    """Make the stage that reads. Raises: CheckpointError as `load_text_encoder`."""
    return text_stage(load_text_encoder(settings).network, load_aural_sam2(settings))


def vocabulary_file(root: Path) -> Path:
    """Tell where the words of a build with text lie below `root`."""
    return root / FUSER / "1" / f"{VOCABULARY}.json"


def graph_file(root: Path, name: str) -> Path:
    """Tell where a stage's graph lies below `root`: prompts' and classes' beside the decoder's, text's by the fuser."""
    if name == TEXT_ENCODER:
        return root / FUSER / "1" / f"{TEXT_ENCODER}.onnx"
    if name == CLASS_HEAD:
        return root / DECODER / "1" / f"{CLASS_HEAD}.onnx"
    return root / (DECODER if name == PROMPTS else name) / "1" / "model.onnx"


def export_graphs(settings: ExportSettings, root: Path, report: Report) -> dict[str, float]:
    """Export all graphs below `root`, two at a time: tracing is one thread, and the decoder takes as long as the rest.

    Returns: seconds that each took, by stage and for "prompts".
    """
    workers = min(2, os.cpu_count() or 1)
    seconds: dict[str, float] = {}
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        # The slowest first.
        names = [*reversed(STAGE_NAMES)]
        if settings.target == "cpu":
            names.insert(1, PROMPTS)
        if settings.classes:
            names.append(CLASS_HEAD)
        if settings.text:
            names.append(TEXT_ENCODER)
        jobs = [pool.submit(_export_one, settings, name, graph_file(root, name)) for name in names]
        for job in as_completed(jobs):
            name, taken = job.result()
            seconds[name] = round(taken, 1)
            file = graph_file(root, name) if name != PROMPTS else graph_file(root, name).with_name(WEIGHTS)
            report(f"exported   {name:13} {file.stat().st_size / 1e6:7.1f} MB  {taken:5.1f} s")
    return seconds


@cache
def _worker_model(settings: ExportSettings) -> SoundingSAM2:
    """Read the checkpoint once in a worker process, which exports several stages and ends with the export."""
    return load_model(settings)


@cache
def _worker_stages(settings: ExportSettings) -> tuple[Stage, ...]:
    return stages_of(settings, _worker_model(settings))


def _export_one(settings: ExportSettings, name: str, path: Path) -> tuple[str, float]:
    """Export one stage in a worker process; return its name and the seconds it took."""
    started = time.monotonic()
    if name == PROMPTS:
        export_prompt_graphs(_worker_model(settings), settings.num_frames, path.parent)
        return name, time.monotonic() - started
    if name == CLASS_HEAD:
        export_stage(class_stage_of(settings), path)
        return name, time.monotonic() - started
    if name == TEXT_ENCODER:
        export_stage(text_stage_of(settings), path)
        words = load_text_encoder(settings).tokenise.vocabulary
        vocabulary_file(path.parents[2]).write_text(json.dumps(words, indent=0) + "\n")
        return name, time.monotonic() - started
    stage = next(stage for stage in _worker_stages(settings) if stage.name == name)
    export_stage(stage, path)
    return name, time.monotonic() - started
