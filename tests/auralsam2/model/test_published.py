"""The published steps give the network's own answer, and cost what the savings save."""

import pytest
import torch

from auralsam2 import AuralSAM2
from auralsam2.errors import NetworkError
from auralsam2.model.parity_weights import parity_state
from auralsam2.model.published import Published
from auralsam2.network import image_encoder
from auralsam2.network.log_mel import LogMel
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
