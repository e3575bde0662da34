"""AudioCon as released: all frames of a clip at once, through the fuser's own projection heads.

Source  AuralSAM2's released training code.
Maths   As in `audio_contrast`, with pixels as the only anchors: a pixel inside the mask has the sounds of all frames
        with an object as positives, a pixel outside those of frames without one; negatives are all pixels and sounds of
        the other kind. Mean over positives, then over all pixels drawn, those without positives counting 0.
Draws   "released": the code compares logits with 0 and 1, so every pixel counts as missed, and of each side of the mask
        min(limit, n) + 2 limit are asked for: all, up to three times the limit. A drawn pixel is then labelled by the
        pixel whose number is its number within its side. Of more than 15240 pixels, those before a random place stay.
        "balanced": what the paper describes. Half inside, half outside, of each half missed and found ones 1 : 1, each
        with its own label.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from auralsam2.network.aural_fuser import AuralFeatures, AuralFuser
from auralsam2.training.losses.audio_contrast import choose, info_nce, targets
from auralsam2.training.settings import ContrastSampling

RELEASED_OVERSHOOT = 3
MAX_ANCHORS = 15240


def project(head: nn.Module, rows: Tensor) -> Tensor:
    """Compute what a projection head, of 1x1 convolutions or of linear layers, makes of each row. [..., C] -> [..., D],
    unit length. Its batch norm sees all rows of one call.
    """
    layers = head.get_submodule("proj")
    assert isinstance(layers, nn.Sequential)
    flat = rows.flatten(0, -2)
    if isinstance(layers[0], nn.Linear):
        out = layers(flat)
    else:
        columns = flat.T[None]  # [1, C, N]
        out = layers(columns[..., None] if isinstance(layers[0], nn.Conv2d) else columns).flatten(2)[0].T
    embedded: Tensor = F.normalize(out, dim=-1).unflatten(0, rows.shape[:-1])
    return embedded


def draw_released(inside: Tensor, limit: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Pixel numbers and their labels, as the released code draws them. inside: [P] bool."""
    pixels, labels = [], []
    for side in (False, True):
        pool = torch.nonzero(inside == side)[:, 0]
        drawn = torch.randperm(len(pool), generator=generator)[: RELEASED_OVERSHOOT * limit].to(pool.device)
        pixels.append(pool[drawn])
        labels.append(inside[drawn])
    return torch.cat(pixels), torch.cat(labels)


def draw_balanced(inside: Tensor, missed: Tensor, samples: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Pixel numbers and their labels, up to `samples`, as the paper describes. inside, missed: [P] bool."""
    parts = [choose(missed & part, ~missed & part, samples // 2, generator) for part in (~inside, inside)]
    pixels = torch.cat(parts)
    return pixels, inside[pixels]


def clip_info_nce(anchors: Tensor, inside: Tensor, sounds: Tensor, sounding: Tensor) -> Tensor:
    """Compute the loss of one clip, a scalar.

    Args:
        anchors: [A, D] pixels, unit length; inside: [A] bool, their labels.
        sounds: [B, D] of frames and scales, unit length; sounding: [B] bool, whether the frame shows an object.
    """
    total = anchors.new_zeros(())
    for side in (False, True):
        mine, positives = anchors[inside == side], sounds[sounding == side]
        negatives = torch.cat([anchors[inside != side], sounds[sounding != side]])
        if len(mine) and len(positives) and len(negatives):
            total = total + info_nce(mine, positives, negatives).sum()
    return total / max(len(anchors), 1)


class ClipContrast(nn.Module):
    """The loss over a whole clip. It owns no parameters: the heads are the fuser's, in training mode."""

    def __init__(self, fuser: AuralFuser, samples: int, sampling: ContrastSampling) -> None:
        super().__init__()
        self.samples = samples
        self.sampling = sampling
        # In a tuple, because a module's attribute would list the fuser's parameters a second time.
        self._heads = (fuser.train_proj_v1, fuser.train_proj_a1)

    def forward(
        self,
        aural: AuralFeatures,
        logits: Tensor,
        masks: Tensor,
        generator: torch.Generator,
        labelled: Tensor | None = None,
    ) -> Tensor:
        """Take the arguments of `AudioContrast`. Heads see all frames; of those without label nothing is drawn."""
        inside, missed = targets(aural.visual[0].shape[-1], logits, masks)
        visual = [project(self._heads[0], v.flatten(2).transpose(1, 2)) for v in aural.visual]  # each [T, P, D]
        audio = [project(self._heads[1], a) for a in aural.audio]  # each [M, D]
        anchors, labels, sounds, sounding = [], [], [], []
        for t in range(len(masks)):
            if labelled is not None and not labelled[t]:
                continue
            for seen, heard in zip(visual, audio, strict=True):
                if self.sampling == "released":
                    pixels, label = draw_released(inside[t], self.samples, generator)
                else:
                    pixels, label = draw_balanced(inside[t], missed[t], self.samples, generator)
                anchors.append(seen[t, pixels])
                labels.append(label)
                sounds.append(heard[t])
                sounding.append(inside[t].any() & ~inside[t].all())
        drawn, names = torch.cat(anchors), torch.cat(labels)
        if self.sampling == "released" and len(drawn) > MAX_ANCHORS:
            kept = max(1, int(torch.randint(len(drawn), (), generator=generator)))
            drawn, names = drawn[:kept], names[:kept]
        return clip_info_nce(drawn, names, torch.stack(sounds), torch.stack(sounding))
