"""The small text encoder of `compact`: numbers of words in, a state a token out, as DistilRoBERTa gives them.

Padding takes part like any word: it has a state of its own, so that a sentence without words is something learned, and
a graph of it needs no mask.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from auralsam2.text.tokeniser import NUM_TOKENS

NUM_LAYERS, NUM_HEADS, MLP_RATIO = 2, 4, 2
_PLACES_STD = 0.1


class Layer(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, MLP_RATIO * width)
        self.fc2 = nn.Linear(MLP_RATIO * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Transform x [B, L, W]."""
        heads = self.qkv(self.norm1(x)).unflatten(2, (3, NUM_HEADS, -1)).permute(2, 0, 3, 1, 4)  # [3, B, H, L, W / H]
        q, k, v = heads.unbind(0)
        x = x + self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        mixed: Tensor = x + self.fc2(F.gelu(self.fc1(self.norm2(x))))
        return mixed


class WordEncoder(nn.Module):
    """A transformer of NUM_LAYERS layers over NUM_TOKENS words.

    Args:
        num_words: of the vocabulary, padding and unknown among them.
        width: of a state; the preset's `text_width`.
    """

    def __init__(self, num_words: int, width: int) -> None:
        super().__init__()
        self.words = nn.Embedding(num_words, width)
        self.places = nn.Parameter(torch.zeros(NUM_TOKENS, width))
        nn.init.normal_(self.places, std=_PLACES_STD)
        self.layers = nn.ModuleList(Layer(width) for _ in range(NUM_LAYERS))
        self.norm = nn.LayerNorm(width)

    def forward(self, numbers: Tensor) -> Tensor:
        """Encode numbers of words [B, 25] int64 -> states [B, 25, W] in the weights' dtype."""
        states = self.words(numbers) + self.places
        for layer in self.layers:
            states = layer(states)
        encoded: Tensor = self.norm(states)
        return encoded
