"""Where adapters change the image features: how often a clip is encoded, and from what prompts are decoded."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from auralsam2_client.contract import ADAPTERS, AUDIO_TOKENS, FRAMES, IMAGE_FEATURES, PROMPT_FEATURES, SOUND_FEATURES
from model_repository.stage_runtime.adapters.stages import (
    AdaptedFramesStage,
    adapters_input,
    prompt_features,
    sound_features,
)
from model_repository.stage_runtime.engine.refusals import BadRequest
from model_repository.stage_runtime.engine.stage import TensorShape

FLOAT = np.dtype(np.float32)
T = 2
SHAPES = {
    FRAMES: TensorShape(FRAMES, np.dtype(np.uint8), (T, 8, 8, 3)),
    **{name: TensorShape(name, FLOAT, (T, 1)) for name in (*IMAGE_FEATURES, *PROMPT_FEATURES)},
}
CLIP = {FRAMES: np.zeros((T, 8, 8, 3), np.uint8)}
HEARD = {AUDIO_TOKENS: np.full((T, 4), 7, np.float32)}
MARK = {"POINT_LABELS": np.ones(16, np.int32)}


class Encoder:
    """Answers with ten times the share of the adapters, in memory that its next call overwrites."""

    def __init__(self) -> None:
        self.shares: list[float] = []
        self._own = {name: np.zeros((T, 1), np.float32) for name in IMAGE_FEATURES}

    def __call__(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        self.shares.append(float(inputs[ADAPTERS][0]))
        for value in self._own.values():
            value[:] = 10 * inputs[ADAPTERS][:, None]
        return self._own | {AUDIO_TOKENS: inputs[AUDIO_TOKENS]}


def ask(**given: Any) -> tuple[list[float], dict[str, Any]]:
    encoder = Encoder()
    stage = AdaptedFramesStage(encoder, None, SHAPES)  # type: ignore[arg-type]  # no files come
    return encoder.shares, stage(HEARD, CLIP | given)


def values(answer: Mapping[str, Any], names: tuple[str, ...]) -> set[float]:
    return {float(answer[name].max()) for name in names}


def test_a_clip_by_sound_is_encoded_once_and_nothing_is_kept_for_prompts() -> None:
    shares, answer = ask()
    assert shares == [1]
    assert values(answer, IMAGE_FEATURES) == {10}
    assert values(answer, PROMPT_FEATURES) == {0}
    assert answer[AUDIO_TOKENS] is HEARD[AUDIO_TOKENS]


def test_prompts_beside_the_sound_are_decoded_from_sam2s_own_features() -> None:
    shares, answer = ask(**MARK)
    assert shares == [1, 0]
    assert values(answer, IMAGE_FEATURES) == {10}, "the second encoding must not overwrite the first"
    assert values(answer, PROMPT_FEATURES) == {0}
    np.testing.assert_array_equal(answer[AUDIO_TOKENS], HEARD[AUDIO_TOKENS])


def test_prompts_alone_take_one_encoding() -> None:
    shares, answer = ask(**MARK, USE_AUDIO=np.array([False]))
    assert shares == [1]
    assert values(answer, PROMPT_FEATURES) == values(answer, IMAGE_FEATURES) == {10}


@pytest.mark.parametrize("name", ["MASK_INPUT", "PROMPTS_COME"])
def test_a_mask_and_a_session_ask_for_them_too(name: str) -> None:
    assert ask(**{name: np.ones(1)})[0] == [1, 0]


def test_frames_are_asked_for() -> None:
    with pytest.raises(BadRequest, match="neither came"):
        AdaptedFramesStage(Encoder(), None, SHAPES)(HEARD, {})  # type: ignore[arg-type]


def test_what_is_read_goes_by_the_method() -> None:
    assert prompt_features({}) == prompt_features({"method": "auralsam2"}) == IMAGE_FEATURES
    assert prompt_features({"method": "gavs"}) == PROMPT_FEATURES
    assert sound_features({}) == SOUND_FEATURES
    assert sound_features({"method": "sama_avs"}) == SOUND_FEATURES[:3]
    assert adapters_input(SHAPES[FRAMES]) == TensorShape(ADAPTERS, FLOAT, (T,))
