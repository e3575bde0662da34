import numpy as np
import pytest
import torch

from auralsam2 import AuralSAM2
from auralsam2.data.samples import Sample
from auralsam2.errors import CheckpointError, DataError
from auralsam2.evaluation.in_process import load_network, network_predictor
from auralsam2.parity_weights import parity_state


def sample(expression: str | None = None) -> Sample:
    rng = np.random.default_rng(3)
    return Sample(
        "a",
        rng.integers(0, 256, (3, 90, 120, 3)).astype(np.uint8),
        rng.normal(0, 0.1, (3, 15600, 2)).astype(np.float32),
        np.zeros((3, 90, 120), bool),
        expression,
    )


def model(text: bool) -> AuralSAM2:
    network = AuralSAM2.from_preset("compact", 224, text=text)
    network.load_released(parity_state(network, 51))
    return network


def test_any_size_of_frame_goes_in_and_the_conditioning_frame_matters() -> None:
    network = model(text=False)
    first, middle = (network_predictor(network, c)(sample()) for c in (0, None))
    assert first.candidates.shape == (3, 3, 56, 56)
    assert first.iou.shape == (3, 3)
    assert first.object_score.shape == (3,)
    again = network_predictor(network, 1)(sample())
    np.testing.assert_array_equal(middle.candidates, again.candidates)
    assert not np.array_equal(first.candidates, middle.candidates)


def test_text_is_encoded_and_changes_the_masks() -> None:
    asked: list[str] = []

    def encode(expression: str) -> torch.Tensor:
        asked.append(expression)
        return torch.full((1, 25, 768), 0.01 * len(expression))

    predict = network_predictor(model(text=True), None, encode)
    bell, dog = predict(sample("the bell")), predict(sample("the dog that barks at the left"))
    assert asked == ["the bell", "the dog that barks at the left"]
    assert not np.array_equal(bell.candidates, dog.candidates)


def test_a_network_that_reads_wants_words() -> None:
    with pytest.raises(DataError, match="reads text beside sound"):
        network_predictor(model(text=True))(sample())


def test_a_preset_without_shipped_weights_asks_for_some() -> None:
    with pytest.raises(CheckpointError, match=r"no weights are shipped for preset 'hiera_tiny'.*--checkpoint"):
        load_network("hiera_tiny")
