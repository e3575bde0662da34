"""GAVS and SAMA-AVS on SAM2: where the adapters are, how large they are, and that without them SAM2 is left."""

import pytest
import torch
from torch import Tensor, nn

from auralsam2 import AuralSAM2
from auralsam2.errors import NetworkError
from auralsam2.model.adapted_sam2 import AdaptedSAM2
from auralsam2.network import mask_decoder
from auralsam2.network.adapters import WIDTHS, SoundAdapter, layers_before
from auralsam2.network.aural_fuser import AuralFeatures
from auralsam2.network.tracker import track
from auralsam2.presets import PRESETS, preset
from auralsam2_client.contract import AURALSAM2
from auralsam2_client.contract import METHODS as ALL_METHODS

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


def part_of(model: AdaptedSAM2, name: str) -> nn.Module:
    return model.aural_fuser.encoder if name == "encoder" else model.aural_fuser.decoder


def num_parameters(part: nn.Module) -> int:
    return sum(parameter.numel() for parameter in part.parameters())


def test_the_widths_are_those_of_the_methods() -> None:
    assert WIDTHS == {"gavs": 128, "sama_avs": 512}
    assert set(ALL_METHODS) == {AURALSAM2, *WIDTHS}


@pytest.mark.parametrize("name", PRESETS)
def test_adapters_begin_after_the_ninth_layer(name: str) -> None:
    first, num_layers = layers_before(preset(name)), sum(preset(name).stages)
    assert first == (3 if name == "compact" else 9)
    assert first < num_layers


@pytest.mark.parametrize(("method", "hidden"), WIDTHS.items())
def test_base_plus_has_an_adapter_for_each_later_layer_and_three_in_the_decoder(method: str, hidden: int) -> None:
    model = AdaptedSAM2(preset("hiera_base_plus"), 224, method)
    assert list(model.aural_fuser.encoder.keys()) == [str(index) for index in range(9, 24)]
    assert len(model.aural_fuser.decoder) == 3

    # Each reads so many image features and 256 of the sound, and gives as many as it reads of the image.
    def size(width: int) -> int:
        return width * hidden + hidden + 256 * hidden + hidden * width + width

    # Twelve layers of stage 3 and three of stage 4.
    assert num_parameters(model.aural_fuser.encoder) == 12 * size(448) + 3 * size(896)
    assert num_parameters(model.aural_fuser.decoder) == 3 * size(256)


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


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_each_part_brings_the_sound_in(part: str) -> None:
    model = drawn("gavs")
    frames, log_mel = clip(model)
    with torch.no_grad():
        silent = model(frames, log_mel)
        for adapter in part_of(model, part).modules():
            if isinstance(adapter, SoundAdapter):
                nn.init.normal_(adapter.up.weight, std=0.1, generator=torch.Generator().manual_seed(1))
        heard, other = model(frames, log_mel), model(frames, -log_mel)
        image = model.image_features(frames)
        changed = model.adapted_features(frames, torch.ones(T, model.preset.width))
        unheard = model.silent_features(frames)
    assert not torch.equal(heard.low_res_logits, silent.low_res_logits)
    assert not torch.equal(heard.low_res_logits, other.low_res_logits)
    # SAM2's own result needs an encoding of its own; what heard nothing is neither.
    assert torch.equal(image.embedding, changed.embedding) == (part == "decoder")
    assert torch.equal(image.embedding, unheard.embedding) == (part == "decoder")
    assert torch.equal(changed.embedding, unheard.embedding) == (part == "decoder")


def test_each_frame_hears_its_own_sound() -> None:
    model = drawn("gavs")
    frames, log_mel = clip(model)
    with torch.no_grad():
        for adapter in model.aural_fuser.modules():
            if isinstance(adapter, SoundAdapter):
                nn.init.normal_(adapter.up.weight, std=0.1, generator=torch.Generator().manual_seed(1))
        sound = model.aural_fuser.vgg(log_mel)
        both, turned = model.adapted_features(frames, sound), model.adapted_features(frames, sound.flip(0))
        share = model.aural_fuser.after_layer(7, frames[:, :, :1, :1].expand(-1, -1, 1, 256), sound, torch.zeros(T))
    torch.testing.assert_close(share, frames[:, :, :1, :1].expand(-1, -1, 1, 256))
    assert not torch.equal(both.embedding[0], turned.embedding[0])
    alone = model.adapted_features(frames[1:], sound[1:])
    torch.testing.assert_close(both.embedding[1:], alone.embedding, atol=1e-4, rtol=1e-4)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(NetworkError, match=r"auralsam2.*gavs, sama_avs"):
        AdaptedSAM2.from_preset("compact", "auralsam2")
    model = drawn("gavs")
    frames, log_mel = clip(model)
    with pytest.raises(NetworkError, match="log_mel"):
        model(frames, log_mel[:1])
    with pytest.raises(NetworkError, match="conditioning_frame 2"):
        model(frames, log_mel, conditioning_frame=2)
    with pytest.raises(NetworkError, match="gavs reads none"):
        model(frames, log_mel, torch.zeros(1, 3, 768))
