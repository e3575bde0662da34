"""Sound in another scale is refused by the stages, whoever sends it."""

import numpy as np
import pytest

from auralsam2_client.contract import MAX_SAMPLE
from model_repository.stage_runtime.engine.full_scale import check_full_scale
from model_repository.stage_runtime.engine.refusals import BadRequest


def audio(value: float) -> dict[str, np.ndarray]:
    samples = np.zeros((3, 8, 2), np.float32)
    samples[1, 5, 0] = value
    return {"AUDIO": samples}


@pytest.mark.parametrize("value", [0.0, 1.0, -1.0, MAX_SAMPLE, -MAX_SAMPLE])
def test_full_scale_is_taken_with_both_ends(value: float) -> None:
    check_full_scale(audio(value * (1 - 1e-7)))


@pytest.mark.parametrize("value", [1.1, -1.1, 127.0, -32768.0, 32767.0, 2.0**31])
def test_any_other_scale_is_refused_by_its_largest_sample(value: float) -> None:
    with pytest.raises(BadRequest, match=r"AUDIO: .* at \[1, 5, 0\]; every sample must lie in \[-1, 1\]. Divide"):
        check_full_scale(audio(value))


def test_what_is_not_finite_or_no_sound_is_left_to_others() -> None:
    for value in (np.nan, np.inf, -np.inf):
        check_full_scale(audio(value))
    check_full_scale({"AUDIO_TOKENS": np.full((3, 4), 9.0, np.float32)})
