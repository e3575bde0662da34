"""Who learns at which rate, and what decays."""

from typing import Any

import torch

from auralsam2 import AuralSAM2
from auralsam2.training.losses.audio_contrast import AudioContrast
from auralsam2.training.run.parameters import parameter_groups
from auralsam2.training.settings import TrainSettings


def groups(settings: TrainSettings) -> tuple[AuralSAM2, AudioContrast, list[dict[str, Any]]]:
    model = AuralSAM2.from_preset("compact", 224)
    contrast = AudioContrast(model.preset.width)
    return model, contrast, parameter_groups(model, contrast, settings)


def test_encoders_are_slow_and_everything_learns_once() -> None:
    model, contrast, (fast, slow) = groups(TrainSettings())
    assert (fast["share"], slow["share"]) == (1.0, 0.1)
    slow_ones = {id(p) for p in slow["params"]}
    for name, parameter in model.named_parameters():
        encoder = name.startswith(("v_model.image_encoder.", "aural_fuser.vgg."))
        assert (id(parameter) in slow_ones) == encoder, name
    assert len(fast["params"]) + len(slow["params"]) == sum(1 for m in (model, contrast) for _ in m.parameters())


def test_released_norms_do_not_decay_and_other_biases_do() -> None:
    model, _, made = groups(TrainSettings(weight_decay=0.05, decay_norms=False))
    optimiser = torch.optim.AdamW(made, lr=1.0, weight_decay=0.05)
    decay = {id(p): group["weight_decay"] for group in optimiser.param_groups for p in group["params"]}
    named = {name: decay[id(p)] for name, p in model.aural_fuser.named_parameters()}
    assert named["f_blocks.0.0.norm1.weight"] == named["f_blocks.0.0.norm1.bias"] == 0
    assert named["f_blocks.0.0.attn.norm.weight"] == 0
    assert named["fusion_modules.0.W_z.1.weight"] == named["fusion_modules.0.W_z2.1.bias"] == 0
    assert named["fusion_modules.0.norm_layer.weight"] == 0
    assert named["f_blocks.0.0.attn.q.weight"] == named["f_blocks.0.0.attn.q.bias"] == 0.05
    assert named["patch_embeds.0.bias"] == named["fusion_modules.0.W_z.0.bias"] == 0.05


def test_what_is_frozen_is_in_no_group() -> None:
    model = AuralSAM2.from_preset("compact", 224)
    model.v_model.requires_grad_(False)
    model.aural_fuser.vgg.requires_grad_(False)
    made = parameter_groups(model, AudioContrast(128), TrainSettings(decay_norms=False))
    held = {id(p) for group in made for p in group["params"]}
    assert not any(id(p) in held for p in (*model.v_model.parameters(), *model.aural_fuser.vgg.parameters()))
