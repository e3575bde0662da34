"""Class tokens on predicted masks: one learned token a class reads the frame, its sound and its mask, and says where
inside the mask its class is.

Source: Stepping-Stone, whose class tokens are trained after the masks and read pre-predicted ones. The form is ours:
tokens read stride 16 by two layers of attention that is drawn to the mask, and weigh the pixels at stride 4 as SAM's
mask tokens do. All it reads is there where the mask decoder runs; shapes are fixed, and no branch depends on values.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from auralsam2.errors import NetworkError
from auralsam2.network.precision import cast
from auralsam2.presets import Preset

MAX_CLASSES = 255
"""So that a label is a byte: 0 is background."""
NUM_LAYERS, NUM_HEADS = 2, 4
NUM_SOUNDS = 3
# Attention to a token of the frame that no mask touches, beside 1 for one inside.
_OUTSIDE = 0.02


class Attention(nn.Module):
    """Multi-head attention of queries [T, K, C] over keys [T, N, C], with a bias [T, 1, 1, N] on the scores."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, queries: Tensor, keys: Tensor, bias: Tensor | None = None) -> Tensor:
        """Mix the values of `keys`, [T, K, C]."""
        q, k, v = (
            x.unflatten(2, (NUM_HEADS, -1)).transpose(1, 2)
            for x in (self.query(queries), self.key(keys), self.value(keys))
        )
        mixed: Tensor = self.out(F.scaled_dot_product_attention(q, k, v, bias).transpose(1, 2).flatten(2))
        return mixed


class TokenLayer(nn.Module):
    """Class tokens look at the frame, at each other, and think."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.look, self.compare = Attention(width), Attention(width)
        self.think = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))

    def forward(self, tokens: Tensor, image: Tensor, bias: Tensor) -> Tensor:
        """Update tokens [T, K, C] by image tokens [T, N, C]."""
        first, second, third = self.norms
        tokens = tokens + self.look(first(tokens), image, bias)
        own = second(tokens)
        tokens = tokens + self.compare(own, own)
        thought: Tensor = self.think(third(tokens))
        return tokens + thought


class Pixels(nn.Module):
    """What a token weighs: image tokens at stride 16 enlarged to stride 4, with the decoder's finer maps on the way."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half, quarter = width // 2, width // 4
        self.around = nn.Conv2d(width, half, 3, padding=1)
        self.to_s8 = nn.ConvTranspose2d(half, half, 2, stride=2)
        self.to_s4 = nn.ConvTranspose2d(half, quarter, 2, stride=2)
        self.from_s8, self.from_s4 = nn.Conv2d(width // 4, half, 1), nn.Conv2d(width // 8, quarter, 1)
        self.norm = nn.GroupNorm(1, half)

    def forward(self, image: Tensor, high_res_s8: Tensor, high_res_s4: Tensor) -> Tensor:
        """Enlarge [T, C, S/16, S/16] -> [T, C/4, S/4, S/4]."""
        x = F.gelu(self.to_s8(F.gelu(self.around(image))) + self.from_s8(high_res_s8))
        return F.gelu(self.to_s4(self.norm(x)) + self.from_s4(high_res_s4))


class ClassHead(nn.Module):
    """Class tokens for one preset of the network, untrained."""

    def __init__(self, preset: Preset, num_classes: int) -> None:
        super().__init__()
        if not 1 <= num_classes <= MAX_CLASSES:
            raise NetworkError(f"{num_classes} classes; a class head has 1 to {MAX_CLASSES}, beside the background.")
        width = preset.width
        self.tokens = nn.Parameter(torch.randn(num_classes, width) / width**0.5)
        self.see, self.locate = nn.Linear(width, width), nn.Linear(width, width)
        self.hear = nn.Linear(NUM_SOUNDS * width, width)
        self.norm = nn.LayerNorm(width)
        self.layers = nn.ModuleList(TokenLayer(width) for _ in range(NUM_LAYERS))
        self.final_norm = nn.LayerNorm(width)
        self.pixels = Pixels(width)
        self.weigh = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width // 4))
        self.score = nn.Linear(width, 1)
        self.eval()

    @property
    def num_classes(self) -> int:
        """Number of classes K, without the background."""
        return self.tokens.shape[0]

    def forward(
        self,
        high_res_s4: Tensor,
        high_res_s8: Tensor,
        embedding: Tensor,
        visual: Tensor,
        audio_1: Tensor,
        audio_2: Tensor,
        audio_3: Tensor,
        mask_logits: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Name what each predicted mask holds.

        Args:
            high_res_s4, high_res_s8, embedding: as in `tracker.ImageFeatures`, of T frames.
            visual: [T, C, S/16, S/16], the fuser's third; zeros where there is no sound.
            audio_1, audio_2, audio_3: [T, C], the fuser's, of the frames' own tokens; zeros where there is no sound,
                and then a class is named by sight, while scores say nothing.
            mask_logits: [T, S/4, S/4], the selected mask of each frame.
        Returns:
            class_map: [T, S/4, S/4] uint8: 0 where the mask's logit is not above 0, else 1 to K.
            class_scores: [T, K] float32 in [0, 1]: is the class among what sounds; 0 in frames whose mask is empty.
        """
        logits, scores = self.logits(
            high_res_s4, high_res_s8, embedding, visual, audio_1, audio_2, audio_3, mask_logits
        )
        inside = mask_logits > 0
        class_map = torch.where(inside, logits.argmax(1) + 1, 0).to(torch.uint8)
        seen = mask_logits.flatten(1).amax(1, keepdim=True) > 0
        return class_map, torch.where(seen, scores.sigmoid().float(), 0.0)

    def logits(
        self,
        high_res_s4: Tensor,
        high_res_s8: Tensor,
        embedding: Tensor,
        visual: Tensor,
        audio_1: Tensor,
        audio_2: Tensor,
        audio_3: Tensor,
        mask_logits: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Compute each class's logit at each pixel, [T, K, S/4, S/4], and in each frame, [T, K].

        Arguments as `forward`.
        """
        dtype = self.tokens.dtype
        fine, middle, coarse, fused = (cast(each, dtype) for each in (high_res_s4, high_res_s8, embedding, visual))
        sounds = torch.cat((audio_1, audio_2, audio_3), dim=1)
        side = coarse.shape[-1]
        image = self.see(coarse.flatten(2).transpose(1, 2)) + self.locate(fused.flatten(2).transpose(1, 2))
        image = self.norm(image)  # [T, N, C]
        covered = F.avg_pool2d((mask_logits > 0).to(dtype)[:, None], mask_logits.shape[-1] // side)
        bias = (covered + _OUTSIDE).log().flatten(2)[:, :, None]  # [T, 1, 1, N]
        tokens = self.tokens + self.hear(cast(sounds, dtype))[:, None]
        for layer in self.layers:
            tokens = layer(tokens, image, bias)
        tokens = self.final_norm(tokens)
        pixels = self.pixels(image.transpose(1, 2).unflatten(2, (side, side)), middle, fine)
        scores: Tensor = self.score(tokens)  # [T, K, 1]
        weights = self.weigh(tokens) / pixels.shape[1] ** 0.5
        return (weights @ pixels.flatten(2) + scores).unflatten(2, pixels.shape[-2:]), scores[..., 0]
