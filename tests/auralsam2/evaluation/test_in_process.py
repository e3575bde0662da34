from dataclasses import replace

import numpy as np
import pytest
import torch

from auralsam2 import AuralSAM2
from auralsam2.data.samples import Sample
from auralsam2.errors import DataError
from auralsam2.evaluation import in_process
from auralsam2.evaluation.in_process import network_predictor
from auralsam2.model.parity_weights import parity_state
from auralsam2.network import tracker
from tests.auralsam2.one_device import ELSEWHERE, OneDevice


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
        return torch.full((1, 25, 128), 0.01 * len(expression))

    predict = network_predictor(model(text=True), None, encode)
    bell, dog = predict(sample("the bell")), predict(sample("the dog that barks at the left"))
    assert asked == ["the bell", "the dog that barks at the left"]
    assert not np.array_equal(bell.candidates, dog.candidates)


def test_on_another_device_nothing_is_left_on_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """The device has no values, so there is no answer; what is proven is that all that is computed was moved there."""
    monkeypatch.setattr(in_process, "open_device", lambda device: ELSEWHERE)
    # Autocast knows no such device, and changes no tensor's.
    monkeypatch.setattr(in_process, "rounding", lambda device, precision: torch.autocast("cpu", enabled=False))
    predict = network_predictor(model(text=True), 0, lambda expression: torch.zeros(1, 25, 128))
    with OneDevice() as watch, pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor"):
        predict(sample("the bell"))
    assert watch.num_operators > 1000


def test_a_network_that_reads_wants_words() -> None:
    with pytest.raises(DataError, match="reads text beside sound"):
        network_predictor(model(text=True))(sample())


def test_bfloat16_is_autocast_around_the_network_and_the_text() -> None:
    network = model(text=True)
    seen: list[tuple[bool, torch.dtype]] = []

    def encode(expression: str) -> torch.Tensor:
        seen.append((torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")))
        return torch.full((1, 25, 128), 0.1)

    inputs: list[torch.Tensor] = []
    hook = network.register_forward_pre_hook(lambda module, arguments: inputs.append(arguments[1]))
    exact, rounded = (
        network_predictor(network, 0, encode, precision)(sample("the bell")) for precision in ("float32", "bfloat16")
    )
    hook.remove()
    assert seen == [(False, torch.bfloat16), (True, torch.bfloat16)]
    # The log-mel examples are the data set's work, in full precision.
    assert inputs[0].dtype == torch.float32
    assert torch.equal(inputs[0], inputs[1])
    assert rounded.candidates.dtype == rounded.iou.dtype == rounded.object_score.dtype == np.float32
    assert not np.array_equal(exact.candidates, rounded.candidates)
    # The mask head ends in a matrix product, so its logits are bfloat16 numbers: the low half of each float is empty.
    assert not (rounded.candidates.view(np.uint32) & 0xFFFF).any()
    assert (exact.candidates.view(np.uint32) & 0xFFFF).any()


def test_a_frame_beyond_the_sound_hears_the_first_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """As released: with two examples for three frames, the third frame's audio token is the first of the text."""
    network = model(text=True)
    heard: list[list[torch.Tensor]] = []
    tokens: list[torch.Tensor] = []
    decode, forward = tracker.decode, network.aural_fuser.forward

    def listening(sam: object, image: object, high_res: object, visual: object, audio: object, dense: object) -> object:
        heard.append(audio)  # type: ignore[arg-type]
        return decode(sam, image, high_res, visual, audio, dense)  # type: ignore[arg-type]

    def fusing(patches: object, given: torch.Tensor) -> object:
        tokens.append(given)
        out = forward(patches, given)  # type: ignore[arg-type]
        tokens.extend(out.audio)
        return out

    monkeypatch.setattr(tracker, "decode", listening)
    monkeypatch.setattr(network.aural_fuser, "forward", fusing)
    whole = sample("the bell")
    short = replace(whole, windows=whole.windows[:2])
    text = torch.linspace(-1, 1, 25 * 128).reshape(1, 25, 128)
    predict = network_predictor(network, 0, lambda expression: text)
    found = predict(short)
    given, *stages = tokens
    assert len(given) == 2 + 25
    with torch.inference_mode():
        assert network.aural_fuser.text_proj is not None
        torch.testing.assert_close(given[2:], network.aural_fuser.text_proj(text[0]), rtol=0, atol=0)
    for stage, audio in enumerate(stages):
        assert torch.equal(heard[2][stage], audio[2:3])
    assert not np.array_equal(found.candidates, predict(whole).candidates)


def test_a_network_without_text_hears_one_example_a_frame() -> None:
    """Sound of another length than the clip is filled up or cut: only with words is there a released behaviour."""
    network = model(text=False)
    whole = sample()
    short = replace(whole, windows=whole.windows[:2])
    filled = replace(whole, windows=whole.windows[[0, 1, 1]])
    long = replace(whole, windows=np.concatenate([whole.windows, whole.windows[:1]]))
    predict = network_predictor(network)
    np.testing.assert_array_equal(predict(short).candidates, predict(filled).candidates)
    np.testing.assert_array_equal(predict(long).candidates, predict(whole).candidates)
