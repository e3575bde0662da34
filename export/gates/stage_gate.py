"""The gate itself: every graph, read back from disk, against the network, stage by stage and as a chain."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from auralsam2.model.sounding_sam2 import SoundingSAM2
from auralsam2.network import image_encoder
from auralsam2.network.log_mel import LogMel
from auralsam2.stages.class_stage import READS as READ_BY_CLASSES
from auralsam2.stages.clip_stages import Stage
from auralsam2_client.contract import ADAPTERS, AUDIO_TOKENS, ENSEMBLE, FRAMES, IMAGE_FEATURES, TOKENS
from export.gates.golden_pair import GoldenPair
from export.gates.parity import MASK_AGREEMENT, OutputParity, check, compare, run_network
from export.gates.text_gate import READS as READ_BY_TEXT
from export.gates.text_gate import Said, join
from export.gates.wire_gate import mask_iou, through_jpeg
from export.graphs.chain import run_clip
from export.reports import Report
from export.settings import ExportSettings
from model_repository.stage_runtime.engine import Engine

Array = npt.NDArray[Any]
# What is at zero where prompts are decoded: beside a sound SAM2's own features, alone those that heard nothing.
FOR_PROMPTS = (ADAPTERS, AUDIO_TOKENS)


@dataclass(frozen=True, eq=False)
class PromptFeatures:
    """What prompts are decoded from, by name: as the network makes it of the clip, and as the chain of graphs does."""

    network: dict[str, Array] = field(default_factory=dict)
    graphs: dict[str, Array] = field(default_factory=dict)


@dataclass(frozen=True)
class GateResult:
    """What the gate measured, and the clip's final outputs by name: the network's, and those of the chain of graphs."""

    parity: list[OutputParity]
    network: dict[str, Array]
    graphs: dict[str, Array]
    features: PromptFeatures = field(default_factory=PromptFeatures)
    """Of prompts beside a sound."""
    unheard: PromptFeatures = field(default_factory=PromptFeatures)
    """Of prompts alone: the same, but where the sound changes the image features."""
    jpeg_iou: float | None = None
    """Of the chain's masks of the clip by JPEG with those by raw frames; None where stages take no JPEG."""
    read_beside: dict[str, Array] = field(default_factory=dict)
    """What a class head reads of the clip, and what the chain with a sentence does, as the network makes it."""
    prompted: list[GoldenPair] = field(default_factory=list)
    """Answers to the golden requests that bring prompts."""


def pass_gate(
    settings: ExportSettings,
    model: SoundingSAM2,
    stages: tuple[Stage, ...],
    load: Callable[[str], Engine],
    precision: str,
    clip: dict[str, Array],
    report: Report,
    unsaid: Said | None = None,
) -> GateResult:
    """Compare the files on disk with PyTorch on a clip.

    Each stage gets the network's own inputs, so that an error is found where it is made; then the chain of graphs is
    compared, and the chain of stages with the network that was never cut.

    Args:
        load: a stage's file as an engine; each is held for its own stage only.
        precision: of the engines, by which the budgets go.
        clip: FRAMES uint8 [T, S, S, 3] and AUDIO float32 [T, 15600, 2].
        unsaid: of a build with text: what stands after the sound where nothing is said.
    Raises: ParityError when a budget is not met.
    """
    clip = clip | {ADAPTERS: np.ones(settings.num_frames, np.float32)}
    wire: dict[str, Tensor] = {name: torch.from_numpy(value) for name, value in clip.items()}
    chain: dict[str, Array] = dict(clip)
    coded = clip | {FRAMES: through_jpeg(clip[FRAMES])} if settings.in_python else None
    measured: list[OutputParity] = []
    apart: list[tuple[PromptFeatures, list[OutputParity]]] = []
    for stage in stages:
        engine = load(stage.name)
        if unsaid is not None and TOKENS in engine.input_shapes:
            wire[TOKENS] = torch.cat([wire[AUDIO_TOKENS], torch.from_numpy(unsaid.network)])
            for known in (chain, coded):
                if known is not None:
                    known[TOKENS] = join(known[AUDIO_TOKENS], unsaid.graphs)
        wanted = run_network(stage, wire)
        found = run_clip(engine, {spec.name: wire[spec.name].numpy() for spec in stage.inputs})
        own = [compare(stage.name, name, found[name], value.numpy()) for name, value in wanted.items()]
        for parity in own:
            check(parity, precision, last_stage=stage is stages[-1])
        measured += own
        worst = max(own, key=lambda parity: parity.relative_rms)
        report(f"checked    {stage.name:13} {worst.output} relative RMS {worst.relative_rms:.1e}")
        wire |= wanted
        chain |= run_clip(engine, chain)
        if coded is not None:
            coded |= run_clip(engine, coded)
        if ADAPTERS in engine.input_shapes:
            apart = [_encoded(stage, engine, wire, chain, changed) for changed in FOR_PROMPTS]
            for parity in (each for _, found in apart for each in found):
                check(parity, precision, last_stage=False)
                measured.append(parity)
        # Its weights and maps go before those of the next come.
        del engine
    masks: Array = wire["MASK_LOGITS"].numpy()
    whole = compare(ENSEMBLE, "MASK_LOGITS", chain["MASK_LOGITS"], masks)
    check(whole, precision, last_stage=True)
    report(
        f"checked    whole chain   masks agree on {whole.mask_agreement:.3%} of the pixels"
        f" (at least {MASK_AGREEMENT[precision]:.1%})"
    )
    uncut = compare("stages in PyTorch", "MASK_LOGITS", masks, _uncut_masks(settings, model, clip, unsaid))
    check(uncut, "float32", last_stage=True)
    final = [spec.name for spec in stages[-1].outputs]
    jpeg_iou = None
    if coded is not None:
        jpeg_iou = mask_iou(coded["MASK_LOGITS"], chain["MASK_LOGITS"])
        report(f"checked    wire          masks' IoU by JPEG with those by raw frames {jpeg_iou:.4f}")
    beside, alone = (features for features, _ in apart or [(_features(wire, chain), [])] * len(FOR_PROMPTS))
    return GateResult(
        [*measured, whole, uncut],
        {name: wire[name].numpy() for name in final},
        {name: chain[name] for name in final},
        beside,
        alone,
        jpeg_iou,
        {name: wire[name].numpy() for name in {*READ_BY_CLASSES, *READ_BY_TEXT} & wire.keys()},
    )


def _features(wire: Mapping[str, Tensor], chain: Mapping[str, Array]) -> PromptFeatures:
    return PromptFeatures(
        {name: wire[name].numpy() for name in IMAGE_FEATURES}, {name: chain[name] for name in IMAGE_FEATURES}
    )


def _encoded(
    stage: Stage, engine: Engine, wire: Mapping[str, Tensor], chain: Mapping[str, Array], silenced: str
) -> tuple[PromptFeatures, list[OutputParity]]:
    """Encode the frames as adapters do for prompts, with one input at zero; and compare the two encodings."""
    given, taken = {**wire} | {silenced: torch.zeros_like(wire[silenced])}, {**chain} | {silenced: 0 * chain[silenced]}
    wanted = run_network(stage, given)
    found = run_clip(engine, {spec.name: given[spec.name].numpy() for spec in stage.inputs})
    parity = [compare(f"{stage.name} without {silenced}", name, found[name], wanted[name].numpy()) for name in wanted]
    return _features({**wanted}, run_clip(engine, taken)), parity


def _uncut_masks(settings: ExportSettings, model: SoundingSAM2, clip: dict[str, Array], unsaid: Said | None) -> Array:
    with torch.no_grad():
        answer = model(
            image_encoder.normalise(torch.from_numpy(clip["FRAMES"])),
            LogMel()(torch.from_numpy(clip["AUDIO"])),
            text=None if unsaid is None else unsaid.states,
            conditioning_frame=settings.conditioning_frame,
        )
    return np.asarray(answer.select(settings.read_out).numpy())
