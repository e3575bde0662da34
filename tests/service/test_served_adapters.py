"""A build of GAVS on the real server: by sound, by prompts, by both and in a session it is the network."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from auralsam2.data.samples import Sample
from auralsam2.data.world.held_out import read_split
from auralsam2.model.adapted_sam2 import AdaptedSAM2
from auralsam2.network.image_encoder import normalise
from auralsam2.network.log_mel import LogMel
from auralsam2.network.tracker import ImageFeatures
from auralsam2.prompted.prompts import PREVIOUS_LIMIT, FramePrompt
from auralsam2_client.calls.client import Client
from auralsam2_client.prompts import Prompts
from export.loading import load_model
from service.server.serving import serve_build
from tests.builds import ADAPTED, built_once, served_once

POINT = (112.0, 112.0)
MARK = Prompts(points=[(*POINT, "+")], frame=1)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    build = served_once(built_once(ADAPTED), tmp_path_factory)
    with serve_build(build, environ={}) as launcher, Client(launcher.config.grpc_url) as client:
        yield client


@pytest.fixture(scope="module")
def network() -> AdaptedSAM2:
    model = load_model(ADAPTED)
    assert isinstance(model, AdaptedSAM2)
    return model


@pytest.fixture(scope="module")
def sample() -> Sample:
    return next(read_split("multi", 1, size=ADAPTED.size, num_frames=ADAPTED.num_frames))


@pytest.fixture(scope="module")
def wanted(network: AdaptedSAM2, sample: Sample) -> dict[str, NDArray[np.float32]]:
    """Logits by sound; of the mark on features that heard nothing, and on SAM2's own; and both together."""
    frames, log_mel = normalise(torch.from_numpy(sample.frames)), LogMel()(torch.from_numpy(sample.windows))
    prompts = [FramePrompt(1, torch.tensor([POINT]), torch.tensor([1]))]

    def marked(image: ImageFeatures) -> torch.Tensor:
        return network.track_prompts(image, prompts).masks

    with torch.no_grad():
        sound = network(frames, log_mel).select()
        plain = marked(network.image_features(frames))
        found = {
            "sound": sound,
            "unheard": marked(network.silent_features(frames)),
            "both": (sound.clamp(-PREVIOUS_LIMIT, PREVIOUS_LIMIT) + plain.clamp(-PREVIOUS_LIMIT, PREVIOUS_LIMIT)) / 2,
        }
    return {name: logits.numpy() for name, logits in found.items()}


def agree(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> bool:
    return bool(((found > 0) == (wanted > 0)).mean() >= 0.999)


def test_every_way_of_asking_is_answered_as_the_network_does(
    client: Client, sample: Sample, wanted: dict[str, NDArray[np.float32]]
) -> None:
    by_sound = client.segment(sample.frames, sample.windows)
    alone = client.segment(sample.frames, None, prompts=MARK, use_audio=False)
    both = client.segment(sample.frames, sample.windows, prompts=MARK)
    assert (by_sound.mode, alone.mode, both.mode) == ("audio", "points", "audio+points")
    assert by_sound.build is not None
    assert by_sound.build["method"] == "gavs"
    assert agree(by_sound.mask_logits, wanted["sound"])
    assert agree(alone.mask_logits, wanted["unheard"])
    assert agree(both.mask_logits, wanted["both"])
    # After an answer with two encodings the next is by sound alone again, to the byte.
    assert client.segment(sample.frames, sample.windows).mask_logits.tobytes() == by_sound.mask_logits.tobytes()
    assert 0 < (wanted["unheard"] > 0).mean() < 0.9, "an empty mask would agree by itself"


def test_a_session_decodes_its_clicks_from_sam2s_own_features(
    client: Client, sample: Sample, wanted: dict[str, NDArray[np.float32]]
) -> None:
    with client.session(sample.frames, sample.windows) as session:
        assert agree(session.segment().mask_logits, wanted["sound"])
        x, y = POINT
        assert agree(session.click(x, y, frame=1).mask_logits, wanted["both"])
    with client.session(sample.frames, None, use_audio=False) as session:
        assert agree(session.click(x, y, frame=1).mask_logits, wanted["unheard"])
