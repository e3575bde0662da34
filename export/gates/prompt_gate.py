"""The gate of the prompt graphs: each, read back from disk, against the network; then the loop around them."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from auralsam2.model.sounding_sam2 import SoundingSAM2
from auralsam2.network import mask_decoder
from auralsam2.network.tracker import ImageFeatures
from auralsam2.prompted.prompted_tracker import track_prompts
from auralsam2.prompted.prompts import NUM_SLOTS, pad_points
from auralsam2.stages.clip_stages import Stage
from auralsam2.stages.prompt_stages import prompt_stages
from auralsam2_client.contract import DECODE, IMAGE_FEATURES, FramePrompt
from export.gates.parity import OutputParity, check, compare, run_network
from export.graphs.chain import run_clip
from export.reports import Report
from export.settings import ExportSettings
from model_repository.stage_runtime.engine import Array
from model_repository.stage_runtime.prompts import decoder as prompted

# A box around the middle of the frame with a point inside and one outside, as shares of its size.
COORDS = ((0.3, 0.3), (0.7, 0.7), (0.45, 0.55), (0.1, 0.2))
LABELS = (2, 3, 1, 0)


def pass_prompt_gate(
    settings: ExportSettings,
    model: SoundingSAM2,
    decoder: prompted.PromptedDecoder,
    precision: str,
    features: dict[str, Array],
    report: Report,
) -> list[OutputParity]:
    """Compare the decoder of a build, read back from disk, with PyTorch on a clip.

    Each graph gets the network's own inputs; then the whole loop is compared with `track_prompts`.

    Args:
        precision: of the arithmetic; "auto" is resolved by the caller.
        features: HIGH_RES_S4, HIGH_RES_S8 and IMAGE_EMBEDDING of the clip, from the network.
    Raises: ParityError when a budget is not met.
    """
    measured: list[OutputParity] = []
    for stage, inputs in _calls(model, settings, features):
        wanted = run_network(stage, inputs)
        found = run_clip(decoder.engines[stage.name], {name: value.numpy() for name, value in inputs.items()})
        own = [compare(stage.name, name, found[name], value.numpy()) for name, value in wanted.items()]
        for parity in own:
            check(parity, precision, last_stage=stage.name == DECODE)
        measured += own
    whole = _whole_clip(model, decoder, settings, features)
    for parity in whole:
        check(parity, precision, last_stage=True)
    worst = max(whole, key=lambda parity: parity.relative_rms)
    report(f"checked    prompts       {worst.output} relative RMS {worst.relative_rms:.1e}")
    return [*measured, *whole]


def _calls(
    model: SoundingSAM2, settings: ExportSettings, features: dict[str, Array]
) -> Iterator[tuple[Stage, dict[str, Tensor]]]:
    """Every graph with what it is given on the clip, in both of its ways where it has two."""
    decode, *memory = prompt_stages(model, settings.num_frames)
    wire = {name: torch.from_numpy(value) for name, value in features.items()}
    embedding, s4 = wire["IMAGE_EMBEDDING"], wire["HIGH_RES_S4"]
    coords, labels = pad_points(torch.tensor(COORDS) * settings.size, torch.tensor(LABELS), NUM_SLOTS)
    given = {
        "IMAGE": embedding[:1] + model.v_model.no_mem_embed.detach()[0, 0][:, None, None],
        "HIGH_RES_S4": s4[:1],
        "HIGH_RES_S8": wire["HIGH_RES_S8"][:1],
        "POINT_COORDS": coords[None],
        "POINT_LABELS": labels[None],
        "MASK_PROMPT": torch.zeros_like(s4[:1, 0]),
        "MASK_GIVEN": torch.zeros(1),
    }
    yield decode, given
    answer = run_network(decode, given)
    mask = answer["FOUR_LOGITS"][:, 0]
    yield decode, given | {"MASK_PROMPT": mask, "MASK_GIVEN": torch.ones(1)}
    if not memory:
        return
    write, prepare, *reads = memory
    last = {"IMAGE_EMBEDDING": embedding[-1:]}
    prepared_tokens = run_network(prepare, last)["TOKENS"]
    yield prepare, last
    memories = []
    for frame in range(max(2, settings.num_frames - 1)):
        inputs = {
            "IMAGE_EMBEDDING": embedding[frame : frame + 1],
            "MASK_LOGITS": mask,
            "PROMPTED": torch.full((1,), 1.0 - frame % 2),
        }
        memories.append(run_network(write, inputs)["MEMORY"])
        if frame < 2:
            yield write, inputs
    tokens = torch.stack(memories, dim=1)
    for read in reads:
        shapes = {spec.name: spec.shape for spec in read.inputs}
        size, num_pointers = shapes["MEMORY"][1], shapes["POINTERS"][1]
        present = torch.ones(1, size), torch.ones(1, num_pointers)
        for flags in present:
            flags[0, max(1, flags.shape[1] - 1) :] = 0  # the last place stays empty, if it is not the only one
        yield (
            read,
            {
                "TOKENS": prepared_tokens,
                "MEMORY": tokens[:, :size],
                "TEMPORAL": model.v_model.maskmem_tpos_enc.detach()[-1, 0].expand(1, size, -1),
                "REMEMBERED": present[0],
                "POINTERS": answer["FOUR_POINTERS"][:, :1].expand(-1, num_pointers, -1),
                "POINTED": present[1],
            },
        )


def _whole_clip(
    model: SoundingSAM2, decoder: prompted.PromptedDecoder, settings: ExportSettings, features: dict[str, Array]
) -> list[OutputParity]:
    """The prompt on the middle frame, so that the clip is gone through both ways."""
    frame, coords = settings.num_frames // 2, np.asarray(COORDS, np.float32) * settings.size
    found = decoder(features, [FramePrompt(frame, coords, np.array(LABELS, np.int32))])
    image = ImageFeatures(*(torch.from_numpy(features[name]) for name in IMAGE_FEATURES))
    with torch.no_grad():
        wanted = track_prompts(
            model.v_model,
            image,
            [FramePrompt(frame, torch.from_numpy(coords), torch.tensor(LABELS))],
            model.positions(),
            mask_decoder.dense_positions(model.v_model),
        )
    network = {
        "MASK_LOGITS": wanted.masks,
        "CANDIDATE_LOGITS": wanted.low_res_logits,
        "IOU": wanted.iou,
        "OBJECT_SCORE": wanted.object_score[:, 0],
    }
    return [compare("prompts", name, found[name], value.numpy()) for name, value in network.items()]
