"""Forms of the masks at the client: what is asked for, what is refused, how each is read."""

import numpy as np
import pytest

from auralsam2_client.calls.answers import outputs_of, wish_tensors
from auralsam2_client.calls.segmentation import prepare_clip, read_segmentation
from auralsam2_client.calls.session import Rounds
from auralsam2_client.calls.wire import ClipShape
from auralsam2_client.contract import ANSWERS, RESULTS, WINDOW_SAMPLES
from auralsam2_client.errors import BadInput, ConfigError
from auralsam2_client.masks import to_masks, to_rle

SHAPE = ClipShape(3, 32, takes_prompts=True, takes_answer=True)
BEFORE = ClipShape(3, 32, takes_prompts=True)
FRAMES, AUDIO = np.zeros((2, 40, 50, 3), np.uint8), np.zeros((3, WINDOW_SAMPLES, 2), np.float32)
REST = {"IOU": np.ones((3, 3), np.float32), "OBJECT_SCORE": np.ones(3, np.float32)}
ROWS, COLUMNS = np.ogrid[:8, :8]
LOGITS = np.stack([radius - np.hypot(ROWS - 3, COLUMNS - 4) for radius in (2, 3, 4)]).astype(np.float32)


@pytest.mark.parametrize("answer", ANSWERS)
def test_a_clip_asks_for_one_form_of_masks(answer: str) -> None:
    clip = prepare_clip(FRAMES, AUDIO, SHAPE, None, True, "mean", answer)
    assert list(clip.outputs) == [ANSWERS[answer], "IOU", "OBJECT_SCORE"]
    assert clip.prompts["ANSWER"].tolist() == [list(ANSWERS).index(answer)]
    assert clip.prompts.get("OUTPUT_SIZE", np.empty(0)).tolist() == ([40, 50] if answer == "rle" else [])
    rounds = Rounds(FRAMES, AUDIO, True, "mean", answer=answer)
    for _ in range(2):
        call = rounds.make_next(SHAPE, None, None)
        rounds.note_answer({})
        assert ANSWERS[answer] in call.outputs
        assert call.tensors["ANSWER"].tolist() == clip.prompts["ANSWER"].tolist()


def test_outputs_say_the_form_and_candidates_come_when_they_are_asked_for() -> None:
    assert wish_tensors(["MASK_BITS", "IOU"], SHAPE)["ANSWER"].tolist() == [2]
    assert wish_tensors(["IOU"], SHAPE)["ANSWER"].tolist() == [0]
    assert wish_tensors(RESULTS, SHAPE) == {}
    assert wish_tensors(["CANDIDATE_LOGITS"], SHAPE) == {}
    for two in (["MASK_BITS", "MASK_RLE"], ["MASK_LOGITS", "MASK_BITS"], ["CANDIDATE_LOGITS", "MASK_BITS"]):
        with pytest.raises(BadInput, match="an answer has one"):
            wish_tensors(two, SHAPE)


def test_a_build_of_logits_alone_is_asked_as_before() -> None:
    assert prepare_clip(FRAMES, AUDIO, BEFORE, None, True, "mean").prompts == {}
    assert wish_tensors(RESULTS, BEFORE) == {}
    with pytest.raises(ConfigError, match="as logits alone, not as 'bits'"):
        prepare_clip(FRAMES, AUDIO, BEFORE, None, True, "mean", "bits")


def test_what_is_no_form_is_refused() -> None:
    with pytest.raises(BadInput, match="answer = 'png'; must be one of logits, float16, bits, rle"):
        outputs_of("png")
    with pytest.raises(BadInput, match="comes up to 8192 a side"):
        wish_tensors(outputs_of("rle"), SHAPE, (8193, 3))


def test_each_form_is_read() -> None:
    wanted = to_masks(LOGITS[:2], (40, 50))
    shape = FRAMES.shape
    logits = read_segmentation({"MASK_LOGITS": LOGITS, **REST}, shape)
    np.testing.assert_array_equal(logits.masks(), wanted)
    half = read_segmentation({"MASK_LOGITS_FP16": LOGITS.astype(np.float16), **REST}, shape)
    assert half.mask_logits.dtype == np.float32
    np.testing.assert_allclose(half.mask_logits, LOGITS[:2], rtol=1e-3)
    bits = read_segmentation({"MASK_BITS": np.packbits(LOGITS > 0, axis=-1), **REST}, shape)
    np.testing.assert_array_equal(bits.mask_logits, np.where(LOGITS[:2] > 0, 1, -1))
    assert (bits.masks() == wanted).mean() > 0.9
    counts = np.array([to_rle(mask)["counts"].encode() for mask in (*wanted, wanted[-1])], np.object_)
    rle = read_segmentation({"MASK_RLE": counts, **REST}, shape)
    np.testing.assert_array_equal(rle.masks(), wanted)
    assert rle.mask_logits.shape == (2, 0, 0)
