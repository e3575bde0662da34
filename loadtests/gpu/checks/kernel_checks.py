"""The fused kernels on a card against float64, at the sizes that are served and at awkward ones; and their bits."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch

from auralsam2.network.precision import PRECISIONS
from kernels.fusion.reference import FUSION_FORMS
from loadtests.gpu.checks.check import Check, Place
from loadtests.gpu.checks.samples import Answer, Sample, draw_attention, draw_depthwise, draw_fusion, excess
from loadtests.gpu.measuring.profile import kernels_of

REPEATS = 50
Draw = Callable[[torch.dtype], Sample]


@dataclass(frozen=True)
class Shape:
    """One size of one operator."""

    operator: str
    name: str
    draw: Draw
    small: bool = False
    served: bool = False
    """A size of a served network: its bits and its sensitivity are looked at too."""
    kernel: str = ""
    """One of the Triton kernels that it launches."""


def _fusion(form: str, kernel: str) -> Iterator[Shape]:
    sizes = {
        "64 x 64, T = 5": (5, 4096, 5, 256, 128),
        "64 x 64, T = 5, 32 words": (5, 4096, 37, 256, 128),
        "32 x 32, T = 16": (16, 1024, 16, 256, 128),
        "16 x 16, compact": (5, 256, 5, 128, 64),
        "14 x 14, straddling": (3, 196, 3, 256, 128),
        "32 x 32, one frame, one token": (1, 1024, 1, 256, 128),
        "16 x 16, 34 tokens": (2, 256, 34, 256, 128),
        "rank of two blocks": (7, 128, 7, 256, 128),
    }
    for number, (name, (frames, pixels, tokens, width, inner)) in enumerate(sizes.items()):
        yield Shape(
            f"fusion, {form}",
            name,
            partial(_draw_fusion, frames, pixels, tokens, form, width, inner),
            small=frames * pixels < 1024,
            served=number == 0,
            kernel=kernel,
        )


def _draw_fusion(
    frames: int, pixels: int, tokens: int, form: str, width: int, inner: int, dtype: torch.dtype
) -> Sample:
    (known,) = (each for each in FUSION_FORMS if each == form)
    return draw_fusion(frames, pixels, tokens, known, dtype, width, inner)


def _attention() -> Iterator[Shape]:
    sizes = {
        "64 x 64, seven frames": (4096, 7, 64, 256, 64),
        "64 x 64, one frame": (4096, 1, 4, 256, 64),
        "32 x 32, seven frames": (1024, 7, 64, 256, 64),
        "16 x 16, compact": (256, 4, 16, 128, 32),
        "14 x 14": (196, 4, 12, 256, 64),
        "7 x 7": (49, 5, 4, 128, 32),
        "pointers alone": (20, 0, 3, 128, 64),
        "one key": (1, 1, 0, 128, 16),
    }
    for number, (name, size) in enumerate(sizes.items()):
        draw = partial(draw_attention, *size)
        yield Shape("memory attention", name, draw, size[0] < 200, number == 0, "attend_memory")


def _depthwise() -> Iterator[Shape]:
    sizes = {
        "64 x 64, T = 5": (5, 64, 1024),
        "32 x 32, T = 16": (16, 32, 1024),
        "16 x 16, compact": (5, 16, 512),
        "14 x 14": (5, 14, 1024),
        "7 x 7": (1, 7, 16),
        "one pixel": (1, 1, 16),
    }
    for number, (name, size) in enumerate(sizes.items()):
        draw = partial(draw_depthwise, *size)
        yield Shape("depth-wise GELU", name, draw, size[1] < 10, number == 0, "depthwise_gelu")


def shapes() -> list[Shape]:
    """List every operator at every size."""
    released, paper = _fusion("released", "released_mix"), _fusion("paper", "paper_mix")
    return [*released, *paper, *_attention(), *_depthwise()]


def kernel_checks() -> list[Check]:
    """List the checks of the kernels, in float32, float16 and bfloat16."""
    checks = []
    for shape in shapes():
        for name, dtype in PRECISIONS.items():
            title = f"{shape.operator}, {shape.name}, {name}"
            checks.append(Check(title, "kernels", partial(_is_right, shape, dtype), shape.small))
            if shape.served:
                checks.append(Check(f"{title}: the same bits", "kernels", partial(_repeats, shape, dtype)))
        if shape.served:
            checks.append(Check(f"{shape.operator}: one percent is found", "kernels", partial(_is_sensitive, shape)))
            checks.append(Check(f"{shape.operator}: its kernel runs", "kernels", partial(_runs, shape)))
    return checks


@contextmanager
def _filled_with_nan() -> Iterator[None]:
    """Let PyTorch fill what is allocated with NaN, so that an element which is not written is seen."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)  # and with it, unless somebody says otherwise, the filling
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def _answer(sample: Sample) -> Answer:
    with torch.inference_mode(), _filled_with_nan():
        return sample.ours()


def _is_right(shape: Shape, dtype: torch.dtype, place: Place) -> None:
    sample = shape.draw(dtype).to(place.device)
    found = excess(_answer(sample), sample)
    assert found <= 1, f"the error is {found:.2f} times what is allowed"


def _is_sensitive(shape: Shape, place: Place) -> None:
    """See an answer that is one percent off as wrong: else the budget says nothing."""
    sample = shape.draw(torch.float32).to(place.device)
    found = excess(_answer(sample.one_percent_off()), sample)
    assert found > 1, f"one percent off is {found:.2f} times what is allowed, and is not seen"


def _repeats(shape: Shape, dtype: torch.dtype, place: Place) -> None:
    sample = shape.draw(dtype).to(place.device)
    first = [part.clone() for part in _answer(sample)]
    for number in range(1, REPEATS):
        for one, other in zip(first, _answer(sample), strict=True):
            assert torch.equal(one, other), f"run {number} differs from the first by {(one - other).abs().max():.1e}"


def _runs(shape: Shape, place: Place) -> None:
    """See the Triton kernel launched: elsewhere the operator's PyTorch form would be compared with itself."""
    sample = shape.draw(torch.float16).to(place.device)
    names = [kernel.name for kernel in kernels_of(lambda: _answer(sample), place.device)]
    assert any(name.startswith(shape.kernel) for name in names), f"{shape.kernel} is not among {names or 'no kernels'}"
