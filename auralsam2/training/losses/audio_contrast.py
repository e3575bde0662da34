"""AudioCon, the audio-guided contrastive loss: pixels that sound come close to the sound they make.

Source  AuralSAM2, supplementary Sec. 1.2 and its released training code.
Maths   For an anchor z and a positive p: -log( exp(z p / t) / (exp(z p / t) + sum_n exp(z n / t)) ), t = 0.1, mean over
        positives, then over anchors. Embeddings are of unit length.
Pairs   Anchors are visual embeddings inside the mask and the frame's audio embeddings. Positives lie between the two
        kinds only, never between pixels. Negatives are the embeddings of pixels outside the mask.
Changed The released code compares all frames of a clip (`clip_contrast`). Here the sound changes from second to
        second, and what is foreground in one is background in the next; so a frame is compared with itself, at all
        three scales.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from auralsam2.network.aural_fuser import AuralFeatures

EMBEDDING_WIDTH = 64
TEMPERATURE = 0.1
MAX_SAMPLES = 512
"""A scale and frame: half inside, half outside the mask; of each half up to one half hard, one half easy."""


def _head(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, EMBEDDING_WIDTH)
    )


def choose(hard: Tensor, easy: Tensor, limit: int, generator: torch.Generator) -> Tensor:
    """Up to `limit` pixel numbers, hard and easy 1 : 1; where one kind is short, the other fills up.

    Args:
        hard, easy: [P] bool, disjoint.
    """
    pools = [torch.nonzero(pool)[:, 0] for pool in (hard, easy)]
    pools = [pool[torch.randperm(len(pool), generator=generator).to(pool.device)] for pool in pools]
    shares = [min(len(pool), limit // 2) for pool in pools]
    for mine, other in ((0, 1), (1, 0)):
        shares[mine] = min(len(pools[mine]), limit - shares[other])
    return torch.cat([pool[:share] for pool, share in zip(pools, shares, strict=True)])


def info_nce(anchors: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
    """Contrast [A, D] anchors with [P, D] positives and [N, D] negatives, all of unit length -> [A] losses."""
    near = anchors @ positives.T / TEMPERATURE  # [A, P]
    far = torch.logsumexp(anchors @ negatives.T / TEMPERATURE, dim=1, keepdim=True)  # [A, 1]
    return F.softplus(far - near).mean(1)


def targets(side: int, logits: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Tell what each cell of the features is, and whether the prediction misses it; both [T, side * side] bool.

    Args:
        logits: [T, h, w], the prediction.
        masks: [T, S, S] float32, 0 or 1.
    """
    target = F.interpolate(masks[:, None], size=(side, side), mode="nearest")[:, 0].flatten(1) > 0.5
    guess = F.interpolate(logits.detach()[:, None], size=(side, side), mode="bilinear", align_corners=False)
    return target, (guess[:, 0].flatten(1) > 0) != target


class AudioContrast(nn.Module):
    """The two projection heads, 3-layer MLPs to 64 dimensions, and the loss. Serves training only."""

    def __init__(self, width: int, samples: int = MAX_SAMPLES) -> None:
        super().__init__()
        self.samples = samples
        self.visual_head = _head(width)
        self.audio_head = _head(width)

    def forward(
        self,
        aural: AuralFeatures,
        logits: Tensor,
        masks: Tensor,
        generator: torch.Generator,
        labelled: Tensor | None = None,
    ) -> Tensor:
        """Mean over the frames in which pixels sound and pixels do not; zero when there is none.

        Args:
            aural: the fuser's features of one clip.
            logits: [T, h, w], the prediction, which says what is hard.
            masks: [T, S, S] float32, 0 or 1.
            generator: chooses the samples.
            labelled: [T] bool, the frames whose mask is known; all when None.
        """
        target, missed = targets(aural.visual[0].shape[-1], logits, masks)
        frames = [t for t in range(len(target)) if target[t].any() and not target[t].all()]
        if labelled is not None:
            frames = [t for t in frames if labelled[t]]
        if not frames:
            return logits.new_zeros(())
        visual = [F.normalize(self.visual_head(v.flatten(2).transpose(1, 2)), dim=-1) for v in aural.visual]
        audio = F.normalize(self.audio_head(torch.stack(aural.audio)[:, : len(target)]), dim=-1)  # [3, T, D]
        losses = []
        for t in frames:
            inside, outside = (
                torch.cat(
                    [v[t, choose(missed[t] & part, ~missed[t] & part, self.samples // 2, generator)] for v in visual]
                )
                for part in (target[t], ~target[t])
            )
            heard = audio[:, t]
            losses.append(torch.cat([info_nce(inside, heard, outside), info_nce(heard, inside, outside)]).mean())
        return torch.stack(losses).mean()
