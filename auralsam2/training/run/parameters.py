"""Which parameters learn, at which share of the rate, and which decay."""

from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from auralsam2.model.sounding_sam2 import SoundingSAM2
from auralsam2.training.settings import TrainSettings

_NORMS = (_BatchNorm, nn.LayerNorm, nn.GroupNorm)


def parameter_groups(model: SoundingSAM2, contrast: nn.Module, settings: TrainSettings) -> list[dict[str, Any]]:
    """Build the optimiser's groups: `share` is of the learning rate. Pretrained encoders are slow, where they learn at
    all.

    Released, weights and biases of norms do not decay, and all others do, biases too.
    """
    encoders = [*model.v_model.image_encoder.parameters(), *model.aural_fuser.vgg.parameters()]
    pretrained = {id(p) for p in encoders}
    learning = [p for part in (model, contrast) for p in part.parameters() if p.requires_grad]
    fast = [p for p in learning if id(p) not in pretrained]
    slow = [p for p in learning if id(p) in pretrained]
    groups: list[dict[str, Any]] = [
        {"params": fast, "share": 1.0},
        {"params": slow, "share": settings.encoder_rate_share},
    ]
    if settings.decay_norms:
        return groups
    norms = {
        id(p)
        for part in (model, contrast)
        for module in part.modules()
        if isinstance(module, _NORMS)
        for p in module.parameters()
    }
    return [
        {**group, "params": [p for p in group["params"] if (id(p) in norms) == is_norm], **decay}
        for group in groups
        for is_norm, decay in ((False, {}), (True, {"weight_decay": 0.0}))
    ]
