"""A network that reads, with the text encoder that was trained with it: for presets whose encoder is this project's.

One file holds fuser and encoder (`aural_fuser.*`, `t_model.*`); SAM2's part, which did not change, is in another.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from auralsam2 import checkpoints
from auralsam2.errors import CheckpointError
from auralsam2.model.aural_sam2 import AuralSAM2
from auralsam2.model.loading import build_network
from auralsam2.model.shipped import fingerprint, shipped_text_weights, shipped_weights
from auralsam2.text.encoder import WordEncoder
from auralsam2.text.tokeniser import Tokeniser

VOCABULARY = "vocabulary"
"""Key of the header: the words of the encoder, in the order of their numbers."""


@dataclass(frozen=True)
class SentenceEncoder:
    """A sentence -> [1, 25, W] float32, states of its words; of "" those of nothing said."""

    tokenise: Tokeniser
    network: WordEncoder

    def __call__(self, sentence: str) -> Tensor:
        """Encode a sentence. Raises: NetworkError where it has too many words."""
        with torch.no_grad():
            states: Tensor = self.network(torch.tensor([self.tokenise(sentence)]))
        return states.float()


def load_with_text(
    preset: str = "compact",
    image_size: int | None = None,
    checkpoint: str | None = None,
    sam2_checkpoint: str | None = None,
) -> tuple[AuralSAM2, SentenceEncoder, str]:
    """Load a network that reads, its text encoder, and what the weights are, in words.

    Args:
        checkpoint: of fuser and encoder; None: the file shipped for the preset.
        sam2_checkpoint: a file with SAM2's part, where `checkpoint` has none; None: the preset's shipped weights.
    Raises: CheckpointError when there are no weights, or they do not fit; NetworkError for an unknown preset or size.
    """
    shipped = shipped_text_weights(preset)
    if checkpoint is None and shipped is None:
        raise CheckpointError(f"no weights that read are shipped for preset {preset!r}; give a checkpoint.")
    name = str(shipped) if checkpoint is None else checkpoint
    about = (
        f"weights {name}" if checkpoint is not None or shipped is None else f"shipped weights {fingerprint(shipped)}"
    )
    state = checkpoints.read(name)
    own = shipped_weights(preset)
    if sam2_checkpoint is None and own is not None and not checkpoints.is_whole(state):
        sam2_checkpoint = str(own)
    model = build_network(name, state, preset, image_size, sam2_checkpoint)
    if not isinstance(model, AuralSAM2):
        raise CheckpointError(f"{name} holds weights of {model.method}, which reads no text.")
    return model, sentence_encoder(name, state, model.preset.text_width), about


def sentence_encoder(name: str, state: Mapping[str, Tensor], width: int) -> SentenceEncoder:
    """Take the text encoder from a file.

    Args:
        name: of the file, whose header names the words.
        state: its tensors.
        width: of a word's state.
    Raises: CheckpointError where the file has none of this project's, or one that knows other words.
    """
    weights = checkpoints.text_model(state)
    tokenise = Tokeniser()
    said = checkpoints.header(name).get(VOCABULARY)
    if said is not None and tuple(said.split()) != tokenise.vocabulary:
        raise CheckpointError(f"{name}: its text encoder was trained on other words than this version numbers: {said}.")
    network = WordEncoder(tokenise.num_words, width).eval().requires_grad_(False)
    checkpoints.load_strictly(network, weights, f"the text encoder of {name}")
    return SentenceEncoder(tokenise, network)
