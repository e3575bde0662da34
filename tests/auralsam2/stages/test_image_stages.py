"""The stage of the frames where adapters bring the sound in: on a CPU and on a GPU it is the network's encoder."""

import pytest
import torch
from torch import Tensor, nn

from auralsam2.model.adapted_sam2 import AdaptedSAM2
from auralsam2.network import image_encoder
from auralsam2.network.adapters import SoundAdapter
from auralsam2.network.log_mel import LogMel
from auralsam2.stages.clip_stages import Stage, build_stages
from auralsam2_client.contract import ADAPTERS, AUDIO_TOKENS, FRAMES, HANDED_ON, models_of
from export.gates.parity import run_network
from model_repository.stage_runtime.engine import Array

T = 2


@pytest.fixture(scope="module")
def model() -> AdaptedSAM2:
    """With adapters that say something."""
    torch.manual_seed(3)
    model = AdaptedSAM2.from_preset("compact", "sama_avs", 224)
    with torch.no_grad():
        for part in model.aural_fuser.modules():
            if isinstance(part, SoundAdapter):
                nn.init.normal_(part.up.weight, std=0.05)
    return model


def stages_of(model: AdaptedSAM2, *, on_cpu: bool) -> dict[str, Stage]:
    made = build_stages(model, T, 0, "iou", 1 if on_cpu else T, hands_on_tokens=not on_cpu, for_cpu=on_cpu)
    return {stage.name: stage for stage in made}


def close(found: Tensor, wanted: Tensor) -> bool:
    return float((found - wanted).norm() / wanted.norm()) < 1e-4


@pytest.mark.parametrize("on_cpu", [True, False])
def test_the_chain_is_the_network(model: AdaptedSAM2, small_clip: dict[str, Array], on_cpu: bool) -> None:
    wire = {name: torch.from_numpy(value) for name, value in small_clip.items()} | {ADAPTERS: torch.ones(T)}
    for stage in stages_of(model, on_cpu=on_cpu).values():
        wire |= run_network(stage, wire)
    whole = model(image_encoder.normalise(wire[FRAMES]), LogMel()(wire["AUDIO"]))
    assert close(wire["MASK_LOGITS"], whole.select("iou"))
    assert close(wire["IOU"], whole.iou)
    assert (HANDED_ON in wire) == (not on_cpu)


def test_without_adapters_the_features_are_sam2s_own(model: AdaptedSAM2, small_clip: dict[str, Array]) -> None:
    stage = stages_of(model, on_cpu=True)["hiera"]
    frames = torch.from_numpy(small_clip[FRAMES])
    tokens = torch.linspace(-1, 1, T * model.preset.width).view(T, -1)
    given = {FRAMES: frames, AUDIO_TOKENS: tokens, ADAPTERS: torch.zeros(T)}
    normalised = image_encoder.normalise(frames)
    off, on = run_network(stage, given), run_network(stage, given | {ADAPTERS: torch.ones(T)})
    silent = run_network(stage, given | {ADAPTERS: torch.ones(T), AUDIO_TOKENS: torch.zeros_like(tokens)})
    assert close(off["IMAGE_EMBEDDING"], model.image_features(normalised).embedding)
    assert close(on["IMAGE_EMBEDDING"], model.adapted_features(normalised, tokens).embedding)
    assert close(silent["IMAGE_EMBEDDING"], model.silent_features(normalised).embedding)
    assert not close(on["IMAGE_EMBEDDING"], off["IMAGE_EMBEDDING"])
    assert not close(on["IMAGE_EMBEDDING"], silent["IMAGE_EMBEDDING"])
    # Frame by frame: the last alone is left as SAM2 has it.
    last = run_network(stage, given | {ADAPTERS: torch.tensor([1.0, 0.0])})["HIGH_RES_S8"]
    assert close(last[1], off["HIGH_RES_S8"][1])
    assert close(last[0], on["HIGH_RES_S8"][0])


def test_between_stages_crosses_what_the_next_one_reads(model: AdaptedSAM2) -> None:
    stages = stages_of(model, on_cpu=True)
    assert [spec.name for spec in stages["hiera"].outputs] == ["HIGH_RES_S4", "HIGH_RES_S8", "IMAGE_EMBEDDING"]
    assert [spec.name for spec in stages["aural_fuser"].outputs] == ["VISUAL_1", "VISUAL_2", "VISUAL_3"]
    assert models_of("gavs")["vggish"] == models_of("auralsam2")["vggish"]
