"""The published steps give the network's own answer, and cost what the savings save."""

from typing import Any

import pytest
import torch

from auralsam2 import AuralSAM2
from auralsam2.errors import NetworkError
from auralsam2.model.adapted_sam2 import AdaptedSAM2
from auralsam2.model.parity_weights import parity_state
from auralsam2.model.published import Published
from auralsam2.network import image_encoder
from auralsam2.network.adapters import SoundAdapter
from auralsam2.network.log_mel import LogMel
from auralsam2.network.tracker import ImageFeatures
from auralsam2.prompted.prompts import FramePrompt
from auralsam2_client.contract import STAGE_NAMES
from export.gates.sample_clip import sample_audio, sample_frames


@pytest.fixture(scope="module")
def model() -> AuralSAM2:
    model = AuralSAM2.from_preset("compact", 256)
    model.load_released(parity_state(model, 51))
    return model


@pytest.mark.parametrize("conditioning_frame", [0, 2])
def test_the_answer_is_the_networks(model: AuralSAM2, conditioning_frame: int) -> None:
    frames, audio = torch.from_numpy(sample_frames(4, 256)), torch.from_numpy(sample_audio(4))
    found = Published(model)(frames, audio, conditioning_frame)
    with torch.inference_mode():
        wanted = model(image_encoder.normalise(frames), LogMel()(audio), conditioning_frame=conditioning_frame)
    error = (found.low_res_logits - wanted.low_res_logits).norm() / wanted.low_res_logits.norm()
    assert float(error) < 1e-5
    torch.testing.assert_close(found.iou, wanted.iou, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.object_score, wanted.object_score, rtol=0, atol=1e-4)


def test_a_step_for_each_stage(model: AuralSAM2) -> None:
    frames, audio = torch.from_numpy(sample_frames(2, 256)), torch.from_numpy(sample_audio(2))
    with torch.inference_mode():
        steps = list(Published(model).stages(frames, audio))
    assert len(steps) == len(STAGE_NAMES)
    assert [step is None for step in steps] == [True, True, True, False]


def test_a_fused_network_is_refused() -> None:
    with pytest.raises(NetworkError, match="before fuse"):
        Published(AuralSAM2.from_preset("compact", 224).fuse())


@pytest.fixture(scope="module")
def adapted() -> AdaptedSAM2:
    torch.manual_seed(5)
    model = AdaptedSAM2.from_preset("compact", "gavs", 224)
    for part in model.aural_fuser.modules():
        if isinstance(part, SoundAdapter):
            torch.nn.init.normal_(part.up.weight, std=0.05)
    return model


def test_adapters_in_the_published_form_are_the_network(adapted: AdaptedSAM2) -> None:
    frames, audio = torch.from_numpy(sample_frames(2, 224)), torch.from_numpy(sample_audio(2))
    published, normalised = Published(adapted), image_encoder.normalise(frames)
    with torch.inference_mode():
        steps = list(published.stages(frames, audio))
        wanted = adapted(normalised, LogMel()(audio))
    assert [step is None for step in steps] == [True, True, True, False]
    torch.testing.assert_close(published(frames, audio).low_res_logits, wanted.low_res_logits, rtol=1e-4, atol=1e-3)
    prompts = [FramePrompt(1, torch.tensor([[100.0, 90.0]]), torch.tensor([1]))]
    alone = published.by_prompts(frames, prompts)
    heard, beside = published.by_both(frames, audio, prompts)
    unheard, own = (adapted.track_prompts(image, prompts) for image in encodings(adapted, normalised))
    torch.testing.assert_close(alone.masks, unheard.masks, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(beside.masks, own.masks, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(heard.low_res_logits, wanted.low_res_logits, rtol=1e-4, atol=1e-3)
    assert not torch.allclose(unheard.masks, own.masks, rtol=1e-4, atol=1e-3)


def encodings(model: AdaptedSAM2, frames: torch.Tensor) -> tuple[ImageFeatures, ImageFeatures]:
    return model.silent_features(frames), model.image_features(frames)


def test_by_both_shares_one_encoding(model: AuralSAM2, monkeypatch: pytest.MonkeyPatch) -> None:
    frames, audio = torch.from_numpy(sample_frames(2, 256)), torch.from_numpy(sample_audio(2))
    prompts = [FramePrompt(0, torch.tensor([[100.0, 90.0]]), torch.tensor([1]))]
    published = Published(model)
    alone, by_sound = published.by_prompts(frames, prompts), published(frames, audio)
    calls, pyramid = list[int](), image_encoder.pyramid

    def counted(*given: Any) -> Any:
        calls.append(1)
        return pyramid(*given)

    monkeypatch.setattr(image_encoder, "pyramid", counted)
    heard, beside = published.by_both(frames, audio, prompts)
    assert len(calls) == 1
    torch.testing.assert_close(heard.low_res_logits, by_sound.low_res_logits)
    torch.testing.assert_close(beside.masks, alone.masks)
