"""GAVS and SAMA-AVS on SAM2: where the adapters are, how large they are, and that without them SAM2 is left."""

import pytest
import torch
from torch import Tensor

from auralsam2 import AuralSAM2
from auralsam2.errors import NetworkError
from auralsam2.model.adapted_sam2 import AdaptedSAM2
from auralsam2.network import mask_decoder
from auralsam2.network.adapters import WIDTHS, layers_before
from auralsam2.network.aural_fuser import AuralFeatures
from auralsam2.network.tracker import track
from auralsam2.presets import PRESETS, preset

METHODS = tuple(WIDTHS)
T = 2


def clip(model: AdaptedSAM2) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(5)
    size = model.image_size
    return torch.randn(T, 3, size, size, generator=random), torch.randn(T, 2, 96, 64, generator=random)


def drawn(method: str) -> AdaptedSAM2:
    """With weights that say something."""
    torch.manual_seed(7)
    return AdaptedSAM2.from_preset("compact", method, 224)


def test_the_widths_are_those_of_the_methods() -> None:
    assert WIDTHS == {"gavs": 128, "sama_avs": 512}


@pytest.mark.parametrize("name", PRESETS)
def test_adapters_begin_after_the_ninth_layer(name: str) -> None:
    first, num_layers = layers_before(preset(name)), sum(preset(name).stages)
    assert first == (3 if name == "compact" else 9)
    assert first < num_layers


@pytest.mark.parametrize(("method", "hidden"), WIDTHS.items())
def test_base_plus_has_an_adapter_for_each_later_layer_and_three_in_the_decoder(method: str, hidden: int) -> None:
    model = AdaptedSAM2(preset("hiera_base_plus"), 224, method)
    assert list(model.encoder_adapters) == [str(index) for index in range(9, 24)]
    # Twelve layers of stage 3 and three of stage 4; each adapter reads 256 features of the sound.
    widths = [448] * 12 + [896] * 3
    encoder = sum(256 * hidden + hidden + hidden * width + width for width in widths)
    decoder = 3 * (256 * hidden + hidden + hidden * 256 + 256)
    assert sum(p.numel() for p in model.encoder_adapters.parameters()) == encoder
    assert sum(p.numel() for p in model.decoder_adapters.parameters()) == decoder


@pytest.mark.parametrize("method", METHODS)
def test_with_adapters_at_zero_it_is_sam2(method: str) -> None:
    model = drawn(method)
    frames, log_mel = clip(model)
    plain = AuralSAM2.from_preset("compact", 224)
    plain.v_model.load_state_dict(model.v_model.state_dict())
    nothing = torch.zeros(T, plain.preset.width)
    maps = torch.zeros(T, plain.preset.width, 14, 14)
    with torch.no_grad():
        found = model(frames, log_mel)
        wanted = track(
            plain.v_model,
            plain.image_features(frames),
            AuralFeatures((maps,) * 3, (nothing,) * 3),
            0,
            plain.positions(),
            mask_decoder.dense_positions(plain.v_model),
        )
    torch.testing.assert_close(found.low_res_logits, wanted.low_res_logits, atol=2e-3, rtol=0)
    torch.testing.assert_close(found.iou, wanted.iou, atol=2e-3, rtol=0)
    torch.testing.assert_close(found.object_score, wanted.object_score, atol=2e-3, rtol=0)


@pytest.mark.parametrize("part", ["encoder_adapters", "decoder_adapters"])
def test_each_part_brings_the_sound_in(part: str) -> None:
    model = drawn("gavs")
    frames, log_mel = clip(model)
    with torch.no_grad():
        silent = model(frames, log_mel)
        for adapter in getattr(model, part).modules():
            if hasattr(adapter, "up"):
                torch.nn.init.normal_(adapter.up.weight, std=0.1, generator=torch.Generator().manual_seed(1))
        heard, other = model(frames, log_mel), model(frames, -log_mel)
        image = model.image_features(frames)
    assert not torch.equal(heard.low_res_logits, silent.low_res_logits)
    assert not torch.equal(heard.low_res_logits, other.low_res_logits)
    # SAM2's own result needs an encoding of its own.
    changed = model.image_features(frames, torch.ones(T, model.preset.width)).embedding
    assert torch.equal(image.embedding, changed) == (part == "decoder_adapters")


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(NetworkError, match=r"auralsam2.*gavs, sama_avs"):
        AdaptedSAM2.from_preset("compact", "auralsam2")
    model = drawn("gavs")
    frames, log_mel = clip(model)
    with pytest.raises(NetworkError, match="log_mel"):
        model(frames, log_mel[:1])
    with pytest.raises(NetworkError, match="conditioning_frame 2"):
        model(frames, log_mel, 2)
