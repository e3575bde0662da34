"""The kernels against float64, through the interpreter where there is no GPU."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from kernels.launching.launch import Blocks, Plan
from kernels.launching.prepared import run
from kernels.memory_attention.plan import ATTEND, MERGE, ROTATE, default_blocks, plan, sizes_of
from loadtests.gpu.checks import samples
from loadtests.gpu.checks.samples import AttentionSample as Case
from loadtests.gpu.checks.samples import draw_attention as case

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPES = [torch.float32, torch.float16, torch.bfloat16]
SMALL = {
    ROTATE: Blocks({"BLOCK_ROWS": 16}, 4, 1),
    ATTEND: Blocks({"BLOCK_Q": 16, "BLOCK_K": 16, "DEPTH": 64}, 4, 1),
    MERGE: Blocks({"BLOCK_ROWS": 64}, 4, 1),
}
"""Blocks that these shapes do not fill, and more than one of each: of queries, of a slice's keys, of features."""
Empty = Callable[..., Tensor]
Change = Callable[[Plan], Plan]


def fused(case: Case, blocks: Mapping[str, Blocks], empty: Empty, change: Change = lambda plan: plan) -> Tensor:
    made = plan(sizes_of(*case.tensors(), case.num_unrotated), case.query.dtype, blocks)
    tensors = {name: tensor.to(DEVICE) for name, tensor in zip(made.inputs, case.tensors(), strict=True)}
    (out,) = run(change(made), tensors, empty=empty)
    return out.cpu()


def excess(case: Case, ours: Tensor) -> float:
    """The largest error against float64 on the same inputs, as a multiple of what is allowed."""
    return samples.excess((ours,), case)


SHAPES = [
    pytest.param(16, 7, 5, 256, 64, SMALL, id="seven-frames"),
    pytest.param(49, 5, 4, 128, 32, SMALL, id="odd-map"),
    pytest.param(64, 4, 44, 256, 16, SMALL, id="300-keys"),
    pytest.param(20, 0, 3, 128, 64, SMALL, id="pointers-alone"),
    pytest.param(24, 1, 0, 256, 32, SMALL, id="one-frame"),
    pytest.param(1, 1, 0, 128, 16, SMALL, id="one-key"),
    pytest.param(40, 5, 64, 256, 64, None, id="blocks-as-shipped"),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("num_queries", "frames", "pointers", "width", "value_width", "blocks"), SHAPES)
def test_against_float64(
    num_queries: int,
    frames: int,
    pointers: int,
    width: int,
    value_width: int,
    blocks: Mapping[str, Blocks] | None,
    dtype: torch.dtype,
    not_a_number: Empty,
) -> None:
    drawn = case(num_queries, frames, pointers, width, value_width, dtype)
    assert excess(drawn, fused(drawn, blocks or default_blocks(dtype, 90), not_a_number)) <= 1


@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    num_queries=st.integers(1, 40),
    frames=st.integers(0, 4),
    pointers=st.integers(0, 9),
    widths=st.sampled_from([(128, 16), (128, 32), (256, 64)]),
    dtype=st.sampled_from(DTYPES),
    magnitude=st.sampled_from([0.0, 1e-2, 1.0, 2.5]),
    seed=st.integers(0, 2**16),
)
def test_any_counts_and_magnitude(
    num_queries: int,
    frames: int,
    pointers: int,
    widths: tuple[int, int],
    dtype: torch.dtype,
    magnitude: float,
    seed: int,
    not_a_number: Empty,
) -> None:
    pointers += frames == 0
    drawn = case(num_queries, frames, pointers, *widths, dtype, magnitude, seed)
    assert excess(drawn, fused(drawn, SMALL, not_a_number)) <= 1


def altered(kernel: str, **values: Any) -> Change:
    """Another plan: of one launch, constants are replaced and integers differ by as much."""

    def change(made: Plan) -> Plan:
        launches = []
        for launch in made.launches:
            if launch.name == kernel:
                constants = {name: values.get(name, value) for name, value in launch.constants.items()}
                integers = {name: value + values.get(name, 0) for name, value in launch.integers.items()}
                launch = replace(launch, constants=constants, integers=integers)
            launches.append(launch)
        return replace(made, launches=tuple(launches))

    return change


def scaled(factor: float) -> Change:
    def change(made: Plan) -> Plan:
        scale = next(launch.constants["LOGIT_SCALE"] for launch in made.launches if launch.name == ATTEND)
        return altered(ATTEND, LOGIT_SCALE=float(scale) * factor)(made)

    return change


def values_that_follow_the_logits(dtype: torch.dtype) -> Case:
    """Values grow with the logits, so an error that all logits share adds up, where roundings cancel each other."""
    drawn = case(16, 7, 8, 256, 16, torch.float32, magnitude=1)
    query = (2 * drawn.query[:1]).expand(16, 256).contiguous()
    value = (drawn.key @ query[0] / 16)[:, None].expand(-1, 16).contiguous()
    no_turn = torch.ones(16, 128), torch.zeros(16, 128)
    return Case(query.to(dtype), drawn.key.to(dtype), value.to(dtype), *no_turn, 8)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("factor", [0.99, 1.01])
def test_one_percent_of_the_scale_is_found(factor: float, dtype: torch.dtype, not_a_number: Empty) -> None:
    drawn = values_that_follow_the_logits(dtype)
    assert excess(drawn, fused(drawn, SMALL, not_a_number)) <= 1
    assert excess(drawn, fused(drawn, SMALL, not_a_number, scaled(factor))) > 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "mutation",
    [
        pytest.param(altered(ROTATE, num_rotated=4), id="pointers-rotated"),
        pytest.param(altered(ROTATE, num_rotated=-1), id="last-pixel-not-rotated"),
        pytest.param(altered(ATTEND, num_keys=-1), id="last-key-unread"),
    ],
)
def test_a_key_read_wrongly_is_found(mutation: Change, dtype: torch.dtype, not_a_number: Empty) -> None:
    drawn = case(16, 3, 4, 128, 32, dtype, magnitude=2)
    drawn.value[-5:] *= 10
    assert excess(drawn, fused(drawn, SMALL, not_a_number)) <= 1
    assert excess(drawn, fused(drawn, SMALL, not_a_number, mutation)) > 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("winner", [0, 17, 52])
def test_large_logits_do_not_overflow(winner: int, dtype: torch.dtype, not_a_number: Empty) -> None:
    """Logits of 640 000 and their negatives: one key takes all, or, where all are equally low, none is preferred."""
    num_queries, num_keys, width = 16, 53, 256
    no_turn = torch.ones(num_queries, width // 2), torch.zeros(num_queries, width // 2)
    query = torch.full((num_queries, width), 200.0)
    query[1::2] = -200.0
    key = torch.zeros(num_keys, width)
    key[winner] = 200.0
    value = torch.arange(num_keys, dtype=torch.float32)[:, None].repeat(1, 16)
    drawn = Case(query.to(dtype), key.to(dtype), value.to(dtype), *no_turn, num_keys - 3 * num_queries)
    ours = fused(drawn, SMALL, not_a_number).float()
    assert torch.equal(ours[0::2], torch.full((8, 16), float(winner)))
    others = (value.sum() / 16 - winner) / (num_keys - 1)
    assert torch.allclose(ours[1::2], others.expand(8, 16), rtol=2 * torch.finfo(dtype).eps)
