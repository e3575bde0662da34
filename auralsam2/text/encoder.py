"""The small text encoder of `compact`: numbers of words in, a state a token out, as DistilRoBERTa gives them.

Padding takes part like any word: it has a state of its own, so that a sentence without words is something learned, and
a graph of it needs no mask.
"""

import torch
from torch import Tensor, nn

from auralsam2.text.tokeniser import NUM_TOKENS

NUM_LAYERS, NUM_HEADS = 2, 4


class WordEncoder(nn.Module):
    """A transformer of NUM_LAYERS layers over NUM_TOKENS words, norms first.

    Args:
        num_words: of the vocabulary, padding and unknown among them.
        width: of a state; the preset's `text_width`.
    """

    def __init__(self, num_words: int, width: int) -> None:
        super().__init__()
        self.words = nn.Embedding(num_words, width)
        self.places = nn.Parameter(torch.zeros(NUM_TOKENS, width))
        nn.init.normal_(self.places, std=0.1)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, NUM_HEADS, 2 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            for _ in range(NUM_LAYERS)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, numbers: Tensor) -> Tensor:
        """Encode numbers of words [B, 25] int64 -> states [B, 25, W] in the weights' dtype."""
        states = self.words(numbers) + self.places
        for layer in self.layers:
            states = layer(states)
        encoded: Tensor = self.norm(states)
        return encoded
