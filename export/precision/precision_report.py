"""How far float16 and bfloat16 are from float32: every output of every stage, the masks, and what they score.

Measured on the CPU, on ONNX Runtime: `emulate` rounds wherever the engine would keep a narrow tensor. The reference is
the network in PyTorch, for float32 graphs too, so that the first column shows what a sum in another order costs. Each
stage is fed with the network's own tensors, so that an error stands where it is made; then the chain of graphs is run.

What only weights trained on the procedural world can tell is M_J of its held-out clips, through each chain of graphs.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from auralsam2.data import world
from auralsam2.data.samples import Sample
from auralsam2.data.world.held_out import read_split
from auralsam2.evaluation.predictions import Prediction
from auralsam2.evaluation.protocol import PROJECT_AVSBENCH
from auralsam2.evaluation.quality import mean_iou
from auralsam2.evaluation.scoring import evaluate
from auralsam2.evaluation.tallies import Score
from auralsam2.model.sounding_sam2 import SoundingSAM2
from auralsam2.network.readout import NO_OBJECT_LOGIT
from auralsam2.stages.clip_stages import Stage, build_stages
from auralsam2_client.contract import HANDED_ON, STAGE_NAMES
from auralsam2_client.media.stills.frames import resize_frames
from export.errors import ExportError
from export.gates.parity import run_network
from export.gates.sample_clip import sample_audio, sample_frames
from export.graphs.chain import run_chain, run_clip
from export.precision.emulation import emulate
from export.precision.half_precision import CastRecord
from export.precision.precision_table import markdown
from export.precision.stage_casts import cast_stage
from export.reports import Report
from export.settings import ExportSettings
from model_repository.stage_runtime.engine import Array, Engine, load_engine

PRECISIONS = ("float32", "float16", "bfloat16")
SPLIT: world.Split = "multi"
TRAINED_PRESET = "compact"


@dataclass(frozen=True)
class OutputError:
    """How far one output is from the network's. None: it is not finite, or, of `mask_iou`, no mask.

    Mask logits are compared where both sides see an object: -1024, the logit of an empty frame, would drown the rest.
    Whether they agree on that is part of `mask_iou`.
    """

    stage: str
    output: str
    max_abs: float | None
    rms: float | None
    relative_max_abs: float | None
    """Shares of the reference's RMS."""
    relative_rms: float | None
    mask_iou: float | None = None
    """Mean over all masks of the IoU with the network's; 1 where both are empty."""


@dataclass(frozen=True)
class Figures:
    """Everything about one precision."""

    precision: str
    stages: tuple[OutputError, ...]
    """Each stage by itself."""
    chain: tuple[OutputError, ...]
    """The last stage's outputs, after all four in this precision."""
    casts: dict[str, CastRecord] = field(default_factory=dict)
    score: Score | None = None
    score_mask_iou: float | None = None
    """On the clips that were scored: mean IoU of this chain's masks with those of the float32 chain."""


@dataclass(frozen=True)
class PrecisionReport:
    """Figures of each precision, and what they were measured on."""

    name: str
    weights: str
    num_clips: int
    """Scored; 0 where `not_scored` says why."""
    not_scored: str | None
    figures: tuple[Figures, ...]

    def as_record(self) -> dict[str, Any]:
        """Describe the report for JSON."""
        return asdict(self)

    def as_markdown(self) -> str:
        """Write the same as tables."""
        return markdown(self.as_record())


def precision_report(
    settings: ExportSettings,
    graphs: Mapping[str, Path],
    model: SoundingSAM2,
    *,
    clips: int = 20,
    report: Report = lambda line: None,
) -> PrecisionReport:
    """Measure what each precision costs.

    Args:
        graphs: the float32 ONNX file of each stage, of `settings`, with its fused operators written out.
        model: the network that they were exported from.
        clips: how many held-out procedural clips are scored, where the weights were trained on that world.
        report: gets a line for each precision.
    Raises: ExportError for a missing graph, or one that cannot be cast.
    """
    missing = [name for name in STAGE_NAMES if name not in graphs]
    if missing:
        raise ExportError(f"no graph of {', '.join(missing)}; the report needs all of {', '.join(STAGE_NAMES)}.")
    stages = _stages(settings, graphs, model)
    clip: dict[str, Array] = {
        "FRAMES": sample_frames(settings.num_frames, settings.size),
        "AUDIO": sample_audio(settings.num_frames),
    }
    wire = _network_wire(stages, clip)
    not_scored = why_not_scored(settings)
    figures: list[Figures] = []
    reference: list[Array] = []
    for precision in PRECISIONS:
        with tempfile.TemporaryDirectory() as folder:
            engines, casts = _engines(graphs, precision, Path(folder))
            own = [error for stage in stages for error in _stage_errors(stage, engines[stage.name], wire)]
            found = run_chain(engines, clip)
            last = [output_error("chain", spec.name, found[spec.name], wire[spec.name]) for spec in stages[-1].outputs]
            score, agreement = None, None
            if not_scored is None:
                masks: list[Array] = []
                score = _score(settings, engines, clips, masks)
                reference = reference or masks
                agreement = float(np.mean([mean_iou(a > 0, b > 0) for a, b in zip(masks, reference, strict=True)]))
        figures.append(Figures(precision, tuple(own), tuple(last), casts, score, agreement))
        scored = "" if score is None else f"  M_J {score.mean_jaccard:.4f} on {clips} clips"
        report(f"measured   {precision:13} masks' IoU with the network's {last[0].mask_iou:.4f}{scored}")
    num_clips = 0 if not_scored else clips
    return PrecisionReport(settings.name, settings.weights_sentence, num_clips, not_scored, tuple(figures))


def why_not_scored(settings: ExportSettings) -> str | None:
    """Say why M_J says nothing about these weights; None where it does."""
    if settings.weights_file is None:
        return "the weights are not trained, their masks mean nothing"
    if settings.preset != TRAINED_PRESET:
        return f"only {TRAINED_PRESET} is trained on the procedural world"
    return None


def output_error(stage: str, output: str, found: Array, wanted: Array) -> OutputError:
    """Compare one output, of the same shape on both sides. `wanted` is finite."""
    agreement = mean_iou(found > 0, wanted > 0) if output.endswith("LOGITS") else None
    if not np.isfinite(found).all():
        return OutputError(stage, output, None, None, None, None, agreement)
    seen = (found > NO_OBJECT_LOGIT) & (wanted > NO_OBJECT_LOGIT) if output == "MASK_LOGITS" else np.isfinite(wanted)
    # Not one frame with an object on both sides: nothing differs but what the masks' IoU tells.
    error = found[seen].astype(np.float64) - wanted[seen] if seen.any() else np.zeros(1)
    scale = float(np.sqrt(np.mean(wanted[seen].astype(np.float64) ** 2))) if seen.any() else 1.0
    largest, rms = float(np.abs(error).max()), float(np.sqrt(np.mean(error**2)))
    scale = max(scale, float(np.finfo(np.float32).tiny))
    return OutputError(stage, output, largest, rms, largest / scale, rms / scale, agreement)


def _stages(settings: ExportSettings, graphs: Mapping[str, Path], model: SoundingSAM2) -> tuple[Stage, ...]:
    """The stages as the graphs were exported: hiera by frames or by whole clips, with or without the audio tokens."""
    inputs = load_engine("onnxruntime", graphs["hiera"]).input_shapes
    return build_stages(
        model,
        settings.num_frames,
        settings.conditioning_frame,
        settings.read_out,
        hiera_frames_per_call=inputs["FRAMES"][0],
        hands_on_tokens="AUDIO_TOKENS" in inputs,
    )


def _network_wire(stages: tuple[Stage, ...], clip: Mapping[str, Array]) -> dict[str, Array]:
    """All that crosses between the stages, and their outputs, as the network computes them."""
    wire: dict[str, Tensor] = {name: torch.from_numpy(value) for name, value in clip.items()}
    for stage in stages:
        wire |= run_network(stage, wire)
    return {name: value.numpy() for name, value in wire.items()}


def _stage_errors(stage: Stage, engine: Engine, wire: Mapping[str, Array]) -> list[OutputError]:
    found = run_clip(engine, wire)
    # Tokens that pass through hiera are not a result of it.
    names = [spec.name for spec in stage.outputs if spec.name != HANDED_ON]
    return [output_error(stage.name, name, found[name], wire[name]) for name in names]


def _engines(
    graphs: Mapping[str, Path], precision: str, folder: Path
) -> tuple[dict[str, Engine], dict[str, CastRecord]]:
    """Each stage's graph in `precision`, loaded; nothing in `folder` is read later."""
    engines: dict[str, Engine] = {}
    casts: dict[str, CastRecord] = {}
    for name in STAGE_NAMES:
        path = graphs[name]
        if precision != "float32":
            casts[name] = cast_stage(name, path, folder / f"{name}.onnx", precision)
            path = emulate(folder / f"{name}.onnx", folder / f"{name}-emulated.onnx")
        engines[name] = load_engine("onnxruntime", path, keep_memory=False)
    return engines, casts


def _score(settings: ExportSettings, engines: Mapping[str, Engine], clips: int, masks: list[Array]) -> Score:
    """Score the chain of `engines`, and put the mask logits of each clip into `masks`."""

    def predict(sample: Sample) -> Prediction:
        found = run_chain(engines, {"FRAMES": resize_frames(sample.frames, settings.size), "AUDIO": sample.windows})
        masks.append(found["MASK_LOGITS"])
        return Prediction(found["CANDIDATE_LOGITS"], found["IOU"], found["OBJECT_SCORE"])

    samples = read_split(SPLIT, clips, num_frames=settings.num_frames)
    return evaluate(SPLIT, samples, predict, protocol=PROJECT_AVSBENCH).scores[settings.read_out]
