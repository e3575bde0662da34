"""Masks in each form, from the same logits."""

import numpy as np

from auralsam2_client.contract import ANSWERS
from auralsam2_client.masks import from_rle, to_masks
from model_repository.stage_runtime.forms.masks import in_form, to_half
from model_repository.stage_runtime.forms.wish import Wish
from tests.model_repository.prompted_stand_in import answer

LOGITS = np.random.default_rng(3).normal(0, 3, (3, 8, 8)).astype(np.float32)
WHOLE = answer(LOGITS, 0.5) | {"PROMPT_MODE": np.array([b"audio"], np.object_)}


def test_without_a_wish_nothing_changes() -> None:
    assert in_form(WHOLE, Wish()) == WHOLE


def test_a_form_comes_in_place_of_all_logits() -> None:
    for form, output in ANSWERS.items():
        found = in_form(WHOLE, Wish(form, 5, 7))
        assert set(found) == {output, "IOU", "OBJECT_SCORE", "PROMPT_MODE"}
        assert found["IOU"] is WHOLE["IOU"]
    assert in_form(WHOLE, Wish("logits"))["MASK_LOGITS"] is WHOLE["MASK_LOGITS"]


def test_the_end_of_a_session_has_no_masks() -> None:
    ended = {"PROMPT_MODE": WHOLE["PROMPT_MODE"]}
    assert in_form(ended, Wish("bits")) == ended


def test_bits_and_run_lengths_are_the_masks() -> None:
    bits = in_form(WHOLE, Wish("bits"))["MASK_BITS"]
    assert (bits.shape, bits.dtype) == ((3, 8, 1), np.uint8)
    np.testing.assert_array_equal(np.unpackbits(bits, axis=-1), LOGITS > 0)
    for frame, counts in enumerate(in_form(WHOLE, Wish("rle", 31, 50))["MASK_RLE"]):
        found = from_rle({"size": [31, 50], "counts": counts.decode()})
        np.testing.assert_array_equal(found, to_masks(LOGITS[frame], (31, 50)))


def test_float16_keeps_every_sign_and_stays_finite() -> None:
    logits = np.array([1e-30, -1e-30, 0.0, 1e30, -1e30, 1.0009765, -1024], np.float32)
    half = to_half(logits)
    assert half.dtype == np.float16
    assert np.isfinite(half).all()
    np.testing.assert_array_equal(half > 0, logits > 0)
    np.testing.assert_array_equal(half[-2:], logits[-2:].astype(np.float16))
