"""The gate of text: what reads, back from disk, against PyTorch; then a sentence through the chain of graphs."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from auralsam2.model.sounding_sam2 import SoundingSAM2
from auralsam2.model.with_text import SentenceEncoder
from auralsam2.network.image_encoder import normalise
from auralsam2.network.log_mel import LogMel
from auralsam2.stages.clip_stages import Stage
from auralsam2_client.contract import (
    AUDIO,
    AUDIO_TOKENS,
    DECODER,
    FRAMES,
    FUSER,
    STAGE_NAMES,
    TEXT_ENCODER,
    TOKENS,
    USUAL_RESULTS,
    WORD_NUMBERS,
    WORD_TOKENS,
)
from export.gates.golden_pair import GoldenPair
from export.gates.parity import OutputParity, check, compare, run_network
from export.graphs.chain import run_clip
from export.reports import Report
from export.settings import ExportSettings
from model_repository.stage_runtime.engine import Array, Engine
from model_repository.stage_runtime.prompts.reading import mode_of

SENTENCE = "the leftmost shape that sounds"
"""Of the gate's clip; another than it is taught by would do as well."""
MASKS = USUAL_RESULTS[0]
READS = (AUDIO_TOKENS, "PATCHES_1", "PATCHES_2", "IMAGE_EMBEDDING", "HIGH_RES_S4", "HIGH_RES_S8")
"""What the chain with words needs of a clip from the stages before the fuser."""


class Said(NamedTuple):
    """A sentence on its way to the fuser; "": nothing is said."""

    states: Tensor
    """[1, 25, W]: of its words, as the network's text encoder gives them."""
    network: Array
    """[25, C]: its tokens, of the network."""
    graphs: Array
    """The same of the text encoder's graph."""


def say(sentence: str, encoder: SentenceEncoder, stage: Stage, engine: Engine) -> Said:
    """Encode a sentence by the network and by the graph of `stage`."""
    numbers = torch.tensor([encoder.tokenise(sentence)], dtype=torch.float32)
    (tokens,) = run_network(stage, {WORD_NUMBERS: numbers}).values()
    return Said(encoder(sentence), tokens.numpy(), run_clip(engine, {WORD_NUMBERS: numbers.numpy()})[WORD_TOKENS])


def join(tokens: Array, words: Array) -> Array:
    """Put the tokens of words after those of the sound, as the fuser's stage does."""
    return np.concatenate([tokens, words])


def pass_text_gate(
    settings: ExportSettings,
    model: SoundingSAM2,
    said: Said,
    load: Callable[[str], Engine],
    precision: str,
    clip: Mapping[str, Array],
    wire: Mapping[str, Array],
    report: Report,
) -> list[tuple[GoldenPair, list[OutputParity]]]:
    """Compare the tokens of a sentence with PyTorch's, and the clip's masks by it, with the sound and without.

    Args:
        said: SENTENCE.
        clip: FRAMES and AUDIO.
        wire: READS of the clip, as the network makes them.
    Returns: for each of the two ways, named by its PROMPT_MODE, both answers and how far they are from each other.
    Raises: ParityError when a budget is not met.
    """
    words = compare(TEXT_ENCODER, WORD_TOKENS, said.graphs, said.network)
    check(words, precision, last_stage=False)
    silence = np.zeros_like(clip[AUDIO])
    silent = run_clip(load(STAGE_NAMES[0]), {AUDIO: silence})[AUDIO_TOKENS]
    fuser, decoder = load(FUSER), load(DECODER)
    found: list[tuple[GoldenPair, list[OutputParity]]] = []
    for use_audio, audio, tokens in ((True, clip[AUDIO], wire[AUDIO_TOKENS]), (False, silence, silent)):
        given = dict(wire) | {TOKENS: join(tokens, said.graphs)}
        given |= run_clip(fuser, given)
        answer = run_clip(decoder, given)
        path = mode_of(use_audio, set(), says=True)
        wanted = _answer(settings, model, clip[FRAMES], audio, said.states)
        masks = compare(f"chain by {path}", MASKS, answer[MASKS], wanted[MASKS])
        check(masks, precision, last_stage=True)
        report(f"checked    {path:13} masks agree on {masks.mask_agreement:.3%} of the pixels")
        pair = GoldenPair(path, wanted, {name: answer[name] for name in wanted})
        found.append((pair, [masks] if found else [words, masks]))
    return found


def _answer(
    settings: ExportSettings, model: SoundingSAM2, frames: Array, audio: Array, states: Tensor
) -> dict[str, Array]:
    """The network's usual results."""
    with torch.no_grad():
        answer = model(
            normalise(torch.from_numpy(frames)),
            LogMel()(torch.from_numpy(audio)),
            text=states,
            conditioning_frame=settings.conditioning_frame,
        )
    results = (answer.select(settings.read_out), answer.iou, answer.object_score[:, 0])
    return {name: value.numpy() for name, value in zip(USUAL_RESULTS, results, strict=True)}
