"""The gate's measures and budgets, on numbers that fit in the head."""

import math

import numpy as np
import pytest

from export.errors import ParityError
from export.gates.parity import (
    DECODER_RELATIVE_RMS,
    MASK_AGREEMENT,
    RELATIVE_RMS,
    OutputParity,
    check,
    compare,
)


def test_compare_measures_what_its_names_say() -> None:
    wanted = np.array([3.0, -4.0, 0.0, 0.0], np.float32)
    found = np.array([3.0, -4.0, 1.0, -2.0], np.float32)
    parity = compare("hiera", "IMAGE_EMBEDDING", found, wanted)
    assert (parity.stage, parity.output) == ("hiera", "IMAGE_EMBEDDING")
    assert parity.max_abs == 2.0
    assert parity.relative_rms == pytest.approx(math.sqrt(5) / 5)
    assert parity.mask_agreement is None
    assert "mask_agreement" not in parity.as_record()


def test_agreement_is_the_share_of_pixels_on_the_same_side_of_zero() -> None:
    wanted = np.array([[1.0, -1.0], [2.0, -2.0]], np.float32)
    found = np.array([[0.1, -9.0], [-0.1, -2.0]], np.float32)
    for output in ("MASK_LOGITS", "CANDIDATE_LOGITS"):
        assert compare("sam2_decoder", output, found, wanted).mask_agreement == 0.75
    for output in ("IOU", "OBJECT_SCORE"):
        assert compare("sam2_decoder", output, found, wanted).mask_agreement is None


def test_zero_is_no_mask() -> None:
    """The client draws what is above 0, so a pixel that moves up from 0 has changed sides; down, it has not."""
    zero, below, above = (np.full(4, value, np.float32) for value in (0.0, -1e-6, 1e-6))
    for found, wanted, agreement in ((zero, below, 1), (below, zero, 1), (zero, above, 0), (above, zero, 0)):
        assert compare("s", "MASK_LOGITS", found, wanted).mask_agreement == agreement


def test_an_output_of_zeros_can_be_compared() -> None:
    assert compare("s", "X", np.zeros(3, np.float32), np.zeros(3, np.float32)).relative_rms == 0
    assert compare("s", "X", np.ones(3, np.float32), np.zeros(3, np.float32)).relative_rms > 1e6


def test_large_values_do_not_overflow() -> None:
    large = np.full(4, 1e30, np.float32)
    assert compare("s", "X", large, large).relative_rms == 0
    assert compare("s", "X", np.float32(1.5) * large, large).relative_rms == pytest.approx(0.5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("side", ["graph", "network"])
def test_a_value_that_is_not_finite_is_refused_on_either_side(bad: float, side: str) -> None:
    good, broken = np.ones((2, 3), np.float32), np.ones((2, 3), np.float32)
    broken[1, 2] = bad
    found, wanted = (broken, good) if side == "graph" else (good, broken)
    with pytest.raises(ParityError, match=r"hiera: PATCHES_1 is \[2, 3\], finite") as caught:
        compare("hiera", "PATCHES_1", found, wanted)
    assert f"finite {side == 'network'}; PyTorch" in str(caught.value)


def test_another_shape_is_refused_even_where_it_would_broadcast() -> None:
    with pytest.raises(ParityError, match=r"vggish: AUDIO_TOKENS is \[1, 4\].*PyTorch gives \[2, 4\]"):
        compare("vggish", "AUDIO_TOKENS", np.ones((1, 4), np.float32), np.ones((2, 4), np.float32))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("last_stage", [False, True])
def test_the_error_budget_holds_on_one_side_and_fires_on_the_other(precision: str, last_stage: bool) -> None:
    budget = (DECODER_RELATIVE_RMS if last_stage else RELATIVE_RMS)[precision]
    check(OutputParity("hiera", "PATCHES_1", 0.25, budget), precision, last_stage)
    with pytest.raises(ParityError) as caught:
        check(OutputParity("hiera", "PATCHES_1", 0.25, budget * 1.01), precision, last_stage)
    for part in ("hiera", "PATCHES_1", f"{budget * 1.01:.1e}", f"budget {budget:.0e}", precision, "2.5e-01"):
        assert part in str(caught.value)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_mask_budget_holds_on_one_side_and_fires_on_the_other(precision: str) -> None:
    budget = MASK_AGREEMENT[precision]
    check(OutputParity("sam2_decoder", "MASK_LOGITS", 0.0, 0.0, budget), precision, last_stage=True)
    with pytest.raises(ParityError) as caught:
        check(OutputParity("sam2_decoder", "MASK_LOGITS", 0.0, 0.0, budget - 1e-4), precision, last_stage=True)
    for part in ("sam2_decoder", "MASK_LOGITS", f"{budget - 1e-4:.4%}", f"{budget:.1%}", precision):
        assert part in str(caught.value)


def test_budgets_are_tighter_before_the_recurrence_and_in_float32() -> None:
    for budgets in (RELATIVE_RMS, DECODER_RELATIVE_RMS):
        assert budgets["float32"] < budgets["bfloat16"]
    for precision, budget in RELATIVE_RMS.items():
        assert budget < DECODER_RELATIVE_RMS[precision]
    assert MASK_AGREEMENT["bfloat16"] < MASK_AGREEMENT["float32"] < 1
