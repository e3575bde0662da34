"""The low-rank form against the plain one: exact in real arithmetic, so float64 agrees to its last digits."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernels.counting import count_operators
from kernels.fusion.pytorch import fuse
from kernels.fusion.reference import FUSION_FORMS, FusionForm, fuse_plainly

RELATIVE = 1e-12


@pytest.mark.parametrize("form", FUSION_FORMS)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    num_frames=st.integers(1, 7),
    num_pixels=st.sampled_from([64, 128, 196, 256, 60]),
    num_tokens=st.integers(1, 40),
    seed=st.integers(0, 1000),
)
def test_low_rank_form_is_exact(
    form: FusionForm,
    fusion_case: Callable[..., object],
    errors: Callable[..., list[float]],
    num_frames: int,
    num_pixels: int,
    num_tokens: int,
    seed: int,
) -> None:
    """Both ways back to full width (rank T M below and above d), with and without rows that straddle channels."""
    case = fusion_case(num_frames, num_pixels, num_tokens, form, torch.float64, seed=seed)
    assert max(errors(fuse(case.visual, case.audio, case.weights, form), case.truth())) <= RELATIVE


def test_float32_at_full_size(fusion_case: Callable[..., object], errors: Callable[..., list[float]]) -> None:
    case = fusion_case(5, 4096, 5)
    assert max(errors(fuse(case.visual, case.audio, case.weights, "released"), case.truth())) <= 1e-5


FLOAT16_ERROR = 2e-3


@pytest.mark.parametrize("num_pixels", [pytest.param(196, id="straddles"), pytest.param(256, id="blocks")])
@pytest.mark.parametrize("num_tokens", [pytest.param(5, id="rank-below-d"), pytest.param(40, id="rank-above-d")])
def test_float16_overflows_nowhere_before_the_result(
    num_pixels: int, num_tokens: int, fusion_case: Callable[..., object], errors: Callable[..., list[float]]
) -> None:
    """Sums over all pixels before the division reach 1e7 here, results 2e4: the plain form has no number to give."""
    case = fusion_case(5, num_pixels, num_tokens, dtype=torch.float16, magnitude=20.0)
    plainly = fuse_plainly(case.visual, case.audio, case.weights, "released")
    assert not any(bool(side.isfinite().all()) for side in plainly)
    assert max(errors(fuse(case.visual, case.audio, case.weights, "released"), case.truth())) <= FLOAT16_ERROR


# Products alone, T = M = 5: 9.5 and 27 times. Nothing exact is left to save in the released form: of its 0.58 GFLOP the
# frames' rank of T M costs 0.26, reading each block for both directions 0.10, and the four small maps 0.05 each.
@pytest.mark.parametrize(("form", "times"), [("released", 9), ("paper", 20)])
def test_a_fraction_of_the_arithmetic(form: FusionForm, times: int, fusion_case: Callable[..., object]) -> None:
    """T = 5, 64 x 64: counted, not timed; `make bench-kernels` times it."""
    case = fusion_case(5, 4096, 5, form)
    plain = count_operators(fuse_plainly, case.visual, case.audio, case.weights, form)
    low_rank = count_operators(fuse, case.visual, case.audio, case.weights, form)
    assert plain.flop >= times * low_rank.flop
