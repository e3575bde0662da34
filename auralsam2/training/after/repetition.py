"""How far a network that learns something new is from what it said before: what keeps sound as good as it was."""

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

SOUND_WEIGHT, SOUND_OTHER_WEIGHT = 100.0, 10.0


class Said(Protocol):
    """What a network says of one frame, or of several."""

    @property
    def low_res_logits(self) -> Tensor: ...

    @property
    def iou(self) -> Tensor: ...

    @property
    def object_score(self) -> Tensor: ...


def repetition_losses(pairs: Sequence[tuple[Said, Said]]) -> dict[str, Tensor]:
    """Compare what is said now with what was said before, pair by pair, of equal shapes, float32."""
    distances, others = [], []
    for now, before in pairs:
        # By the masks: far from the threshold a logit says no more.
        masks, wanted = (each.low_res_logits.clamp(-8, 8).sigmoid() for each in (now, before))
        distances.append(F.mse_loss(masks, wanted))
        others.append(0.002 * F.mse_loss(now.low_res_logits, before.low_res_logits))
        others.append(F.mse_loss(now.iou, before.iou) + 0.01 * F.mse_loss(now.object_score, before.object_score))
    return {
        "sound": SOUND_WEIGHT * torch.stack(distances).mean(),
        "sound_other": SOUND_OTHER_WEIGHT * torch.stack(others).mean(),
    }
