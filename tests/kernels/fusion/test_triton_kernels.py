"""The fusion's kernels, run by Triton's interpreter (or on a GPU where there is one), against float64."""

import dataclasses
from collections.abc import Callable

import pytest
import torch
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from kernels.fusion.plan import FusionSizes, default_blocks, plan
from kernels.fusion.pytorch import fuse
from kernels.fusion.reference import FUSION_FORMS, FusionForm, fuse_plainly
from kernels.launching.errors import KernelError
from kernels.launching.launch import Launch, Plan
from kernels.launching.prepared import run

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
FLOAT32_ERROR = 1e-5
SHAPES = [
    pytest.param(2, 256, 5, id="16x16"),
    pytest.param(3, 196, 3, id="14x14-straddles"),
    pytest.param(1, 1024, 1, id="32x32-one-frame-one-token"),
    pytest.param(2, 256, 34, id="with-32-words"),
    pytest.param(7, 128, 7, id="rank-of-two-blocks"),
]


def planned(case, form: FusionForm) -> Plan:  # type: ignore[no-untyped-def]
    sizes = FusionSizes.of(*case.visual.shape[:2], case.audio.shape[0], case.weights.width, case.weights.inner)
    return plan(sizes, case.visual.dtype, form, default_blocks(case.visual.dtype))


def fused(made: Plan, tensors: dict[str, Tensor], empty: Callable[..., Tensor]) -> tuple[Tensor, Tensor]:
    frame, sound = run(made, {name: tensor.to(DEVICE) for name, tensor in tensors.items()}, empty)
    return frame.cpu(), sound.cpu()


@pytest.mark.parametrize("form", FUSION_FORMS)
@pytest.mark.parametrize(("num_frames", "num_pixels", "num_tokens"), SHAPES)
def test_float32(fusion_case, errors, not_a_number, form, num_frames, num_pixels, num_tokens) -> None:  # type: ignore[no-untyped-def]
    case = fusion_case(num_frames, num_pixels, num_tokens, form)
    assert max(errors(fused(planned(case, form), case.tensors(), not_a_number), case.truth())) < FLOAT32_ERROR


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("form", FUSION_FORMS)
@pytest.mark.parametrize(("num_frames", "num_pixels", "num_tokens"), [SHAPES[1], SHAPES[4]])
def test_half_precision_errs_at_most_twice_as_much_as_pytorch(  # type: ignore[no-untyped-def]
    fusion_case, errors, not_a_number, dtype, form, num_frames, num_pixels, num_tokens
) -> None:
    case = fusion_case(num_frames, num_pixels, num_tokens, form, dtype)
    truth = case.truth()
    ours = errors(fused(planned(case, form), case.tensors(), not_a_number), truth)
    pytorch = errors(fuse_plainly(case.visual, case.audio, case.weights, form), truth)
    for our_error, their_error in zip(ours, pytorch, strict=True):
        assert our_error <= 2 * their_error


@pytest.mark.parametrize("form", FUSION_FORMS)
# The same draws in every run, so that a run that fails can be repeated. Not shrunk: a call takes the interpreter
# seconds, and a search for the smallest one minutes.
@settings(
    max_examples=4,
    derandomize=True,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@example(num_frames=3, side=14, num_tokens=17, sizes=(256, 128), magnitude=30.0, seed=951)
@given(
    num_frames=st.integers(1, 3),
    side=st.sampled_from([7, 8, 14]),
    num_tokens=st.integers(1, 35),
    sizes=st.sampled_from([(256, 128), (128, 64)]),
    magnitude=st.sampled_from([1e-3, 1.0, 30.0]),
    seed=st.integers(0, 1000),
)
def test_drawn_shapes_and_values(  # type: ignore[no-untyped-def]
    fusion_case,
    errors,
    not_a_number,
    form,
    num_frames,
    side,
    num_tokens,
    sizes,
    magnitude,
    seed,
) -> None:
    case = fusion_case(
        num_frames, side**2, num_tokens, form, width=sizes[0], inner=sizes[1], seed=seed, magnitude=magnitude
    )
    truth = case.truth()
    plainly = errors(fuse_plainly(case.visual, case.audio, case.weights, form), truth)
    # Float32 itself errs more where numbers cancel, and in another order of products where a softmax saturates: there
    # its own error is the measure, in the plain order and in the kernels', which fold keys into the query weights.
    folded = errors(fuse(case.visual, case.audio, case.weights, form), truth)
    allowed = [max(FLOAT32_ERROR, 2 * max(each)) for each in zip(plainly, folded, strict=True)]
    found = errors(fused(planned(case, form), case.tensors(), not_a_number), truth)
    assert all(error <= bound for error, bound in zip(found, allowed, strict=True))


def test_float16_does_not_overflow_between_two_products(fusion_case, errors, not_a_number) -> None:  # type: ignore[no-untyped-def]
    """Scores far above 65504: PyTorch's float16 answers inf and NaN here, the kernels divide rows by their largest."""
    case = fusion_case(2, 256, 5, dtype=torch.float16, magnitude=60.0)
    plainly = fuse_plainly(case.visual, case.audio, case.weights, "released")
    assert not all(bool(side.isfinite().all()) for side in plainly)
    assert max(errors(fused(planned(case, "released"), case.tensors(), not_a_number), case.truth())) < 2e-3


def one_percent_off(made: Plan, change: Callable[[Launch], Launch]) -> Plan:
    return dataclasses.replace(made, launches=tuple(change(launch) for launch in made.launches))


def scaled_softmax(launch: Launch) -> Launch:
    constants = {
        name: value * 1.01 if name == "SCALE" and isinstance(value, float) else value
        for name, value in launch.constants.items()
    }
    return dataclasses.replace(launch, constants=constants)


@pytest.mark.parametrize("form", FUSION_FORMS)
@pytest.mark.parametrize("scaled", ["frame_out", "sound_out", "frame_norm", "visual_in"])
def test_a_weight_one_percent_off_is_found(fusion_case, errors, not_a_number, form, scaled) -> None:  # type: ignore[no-untyped-def]
    case = fusion_case(2, 256, 5, form)
    tensors = case.tensors()
    tensors[scaled] = tensors[scaled] * 1.01
    assert max(errors(fused(planned(case, form), tensors, not_a_number), case.truth())) > 10 * FLOAT32_ERROR


def test_a_softmax_one_percent_too_sharp_is_found(fusion_case, errors, not_a_number) -> None:  # type: ignore[no-untyped-def]
    case = fusion_case(2, 256, 5, "paper")
    made = one_percent_off(planned(case, "paper"), scaled_softmax)
    assert max(errors(fused(made, case.tensors(), not_a_number), case.truth())) > 10 * FLOAT32_ERROR


def test_a_mean_over_one_percent_too_many_rows_is_found(fusion_case, errors, not_a_number) -> None:  # type: ignore[no-untyped-def]
    case = fusion_case(2, 256, 5)

    def longer(launch: Launch) -> Launch:
        more = {name: 517 if name == "num_rows" else value for name, value in launch.integers.items()}
        return dataclasses.replace(launch, integers=more)

    made = one_percent_off(planned(case, "released"), longer)
    assert max(errors(fused(made, case.tensors(), not_a_number), case.truth())) > 10 * FLOAT32_ERROR


@pytest.mark.parametrize(
    ("sizes", "named"),
    [
        ((5, 256, 5, 192, 128), r"widths \(128, 256\)"),
        ((5, 256, 5, 256, 96), r"inner widths \(64, 128\)"),
        ((0, 256, 5, 256, 128), "at least 1"),
        ((5, 256, 0, 256, 128), "at least 1"),
        ((5000, 4096, 5, 256, 128), "2147483647"),
    ],
)
def test_limits_are_named(sizes: tuple[int, int, int, int, int], named: str) -> None:
    with pytest.raises(KernelError, match=named):
        FusionSizes.of(*sizes)


def test_other_types_and_forms_are_refused() -> None:
    sizes = FusionSizes.of(1, 256, 1, 256, 128)
    blocks = default_blocks(torch.float32)
    with pytest.raises(KernelError, match="fp32, fp16, bf16"):
        plan(sizes, torch.float64, "released", blocks)
    with pytest.raises(KernelError, match="released, paper"):
        plan(sizes, torch.float32, "other", blocks)  # type: ignore[arg-type]
