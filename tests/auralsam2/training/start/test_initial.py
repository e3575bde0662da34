"""Initial weights: after them, sounds that differ are features that differ."""

from pathlib import Path

import pytest
import torch

from auralsam2 import AuralSAM2
from auralsam2.model.parity_weights import parity_state
from auralsam2.network.log_mel import LogMel
from auralsam2.training.examples.clips import Source, procedural
from auralsam2.training.recipes import settings_for
from auralsam2.training.start import starting
from auralsam2.training.start.initial import initialise_fuser, initialise_fuser_as_released, initialise_vggish


def log_mel_of(source: Source, numbers: range) -> torch.Tensor:
    log_mel = LogMel()
    with torch.no_grad():
        return torch.cat([log_mel(torch.from_numpy(source(number, 5).windows)) for number in numbers])


def spread(model: AuralSAM2, log_mel: torch.Tensor) -> float:
    """How much of an audio feature, as the first stage hands it on, depends on the sound."""
    side = model.aural_fuser.side
    with torch.no_grad():
        blank = torch.zeros(5, model.preset.width, side, side)
        features = model.aural_fuser((blank, blank, blank), model.aural_fuser.tokens(log_mel)).audio[0]
    return float(features.std(0).mean() / features.abs().mean())


def test_units_are_centred_and_of_unit_variance_on_sounds_not_used_for_it() -> None:
    torch.manual_seed(0)
    model = AuralSAM2.from_preset("compact", 224)
    source = procedural(0, 16)
    initialise_vggish(model.aural_fuser.vgg, log_mel_of(source, range(24)))
    with torch.no_grad():
        tokens = model.aural_fuser.tokens(log_mel_of(source, range(24, 48)))
    # Of a unit normal, the positive part has mean 0.40 and standard deviation 0.58.
    assert abs(float(tokens.mean()) - 0.40) < 0.1
    assert abs(float(tokens.std()) - 0.58) < 0.15
    assert (tokens.max(0).values > 0).float().mean() > 0.95, "dead units"


def test_sound_shows_in_the_features_far_more_than_with_the_usual_initial_weights() -> None:
    torch.manual_seed(0)
    model = AuralSAM2.from_preset("compact", 224)
    source = procedural(0, 16)
    heard = log_mel_of(source, range(48, 49))
    before = spread(model, heard)
    initialise_vggish(model.aural_fuser.vgg, log_mel_of(source, range(24)))
    initialise_fuser(model.aural_fuser)
    assert spread(model, heard) > 0.2
    assert spread(model, heard) > 5 * before


def test_a_unit_that_nothing_moves_stays_finite() -> None:
    model = AuralSAM2.from_preset("compact", 224)
    initialise_vggish(model.aural_fuser.vgg, torch.full((4, 2, 96, 64), -4.6))
    assert all(torch.isfinite(p).all() for p in model.aural_fuser.vgg.parameters())
    assert max(float(p.detach().abs().max()) for p in model.aural_fuser.vgg.parameters()) < 1e3


def test_released_the_blocks_begin_small_and_the_fusion_adds_nothing() -> None:
    torch.manual_seed(0)
    fuser = AuralSAM2.from_preset("compact", 224).aural_fuser
    for module in fuser.fusion_modules:
        torch.nn.init.normal_(module.get_submodule("W_z.1").weight)  # type: ignore[arg-type]
    initialise_fuser_as_released(fuser)
    block = fuser.f_blocks[0][0]  # type: ignore[index]
    width = 128
    wanted = {
        "attn.q": 0.02,
        "mlp.fc2": 0.02,
        "mlp.dwconv.dwconv": (2 / 9) ** 0.5,
        "attn.sr": (2 / (16 * width)) ** 0.5,
    }
    for name, std in wanted.items():
        layer = block.get_submodule(name)
        assert layer.get_parameter("weight").std().item() == pytest.approx(std, rel=0.05), name
        assert not layer.get_parameter("bias").any()
    for module in fuser.fusion_modules:
        for name in ("W_z.1", "W_z2.1"):
            norm = module.get_submodule(name)
            assert not norm.get_parameter("weight").any()
            assert not norm.get_parameter("bias").any()


def test_a_released_run_begins_so_and_given_weights_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starting, "NUM_CLIPS", 2)
    settings = settings_for("released", image_size=224, num_frames=2, steps=1, clips_per_step=1, workers=1)
    path = tmp_path / "weights.pth"
    key = "aural_fuser.fusion_modules.0.W_z.1.weight"
    torch.save(parity_state(AuralSAM2.from_preset("compact", 224), 51), path)
    query = "aural_fuser.f_blocks.0.0.attn.q.bias"
    begun, given = (
        starting.starting_point(settings, weights, procedural(0, 224), LogMel())[0].state_dict()
        for weights in (starting.Weights(), starting.Weights(checkpoint=str(path)))
    )
    assert not begun[key].any()
    assert not begun[query].any()
    assert given[key].any()
    assert given[query].any()
