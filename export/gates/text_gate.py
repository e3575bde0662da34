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
from auralsam2_client.contract import AUDIO, AUDIO_TOKENS, DECODER, FRAMES, FUSER, TOKENS, WORD_NUMBERS, WORD_TOKENS
from export.gates.parity import OutputParity, check, compare, run_network
from export.graphs.chain import run_clip
from export.reports import Report
from export.settings import ExportSettings
from model_repository.stage_runtime.engine import Array, Engine

SENTENCE = "the leftmost shape that sounds"
"""Of the gate's clip; another than it is taught by would do as well."""
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
) -> list[OutputParity]:
    """Compare the tokens of a sentence with PyTorch's, and the masks of the clip with it with those of the network.

    Args:
        said: SENTENCE.
        clip: FRAMES and AUDIO.
        wire: READS of the clip, as the network makes them.
    Raises: ParityError when a budget is not met.
    """
    words = compare("text_encoder", WORD_TOKENS, said.graphs, said.network)
    check(words, precision, last_stage=False)
    given = dict(wire) | {TOKENS: join(wire[AUDIO_TOKENS], said.graphs)}
    for name in (FUSER, DECODER):
        given |= run_clip(load(name), given)
    with torch.no_grad():
        wanted = model(
            normalise(torch.from_numpy(clip[FRAMES])),
            LogMel()(torch.from_numpy(clip[AUDIO])),
            text=said.states,
            conditioning_frame=settings.conditioning_frame,
        ).select(settings.read_out)
    masks = compare("chain with text", "MASK_LOGITS", given["MASK_LOGITS"], wanted.numpy())
    check(masks, precision, last_stage=True)
    report(f"checked    text          masks by sentence agree on {masks.mask_agreement:.3%} of the pixels")
    return [words, masks]
