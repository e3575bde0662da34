"""Chains with open sizes: what TensorRT would compute from its shapes is what the plan of plain integers says."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

from kernels.catalogue import default_blocks
from kernels.compilation import Compiled
from kernels.launching.errors import KernelError
from kernels.launching.launch import Blocks, Launch, Plan
from kernels.plugins import plugin_operators
from kernels.plugins.chains import Chain, Fused
from kernels.plugins.symbolic_sizes import Expression, evaluate
from kernels.tuning import blocks_of
from tests.kernels.plugins.plugin_stand_ins import pretend_to_compile

BLOCKS = default_blocks(torch.float16, 80)
FUSED = [
    plugin_operators.audio_visual_fusion("released", 64 * 64, 256, 128, BLOCKS),
    plugin_operators.audio_visual_fusion("released", 14 * 14, 256, 128, BLOCKS),
    plugin_operators.audio_visual_fusion("paper", 16 * 16, 128, 64, BLOCKS),
    plugin_operators.memory_attention(4096, 64, 256, 64, BLOCKS),
    plugin_operators.depthwise_gelu(64, 1024, BLOCKS),
]
REQUESTS = [{"T": 1, "M": 1, "K": 4160}, {"T": 5, "M": 5, "K": 28736}, {"T": 16, "M": 41, "K": 8256}]


def shapes(fused: Fused, sizes: dict[str, Any]) -> dict[str, tuple[Any, ...]]:
    return {
        name: tuple(sizes[axis] if isinstance(axis, str) else axis for axis in shape)
        for name, shape in fused.inputs.items()
    }


@pytest.mark.parametrize("request_sizes", REQUESTS, ids=str)
@pytest.mark.parametrize("fused", FUSED, ids=lambda fused: fused.name)
def test_open_sizes_compute_what_integers_do(fused: Fused, request_sizes: dict[str, int]) -> None:
    names = {name: Expression("size", name) for name in request_sizes}
    values = {names[name]: size for name, size in request_sizes.items()}
    opened = fused.plan(shapes(fused, names), torch.float16)
    plain = fused.plan(shapes(fused, request_sizes), torch.float16)
    assert len(opened.launches) == len(plain.launches)
    for ours, theirs in zip(opened.launches, plain.launches, strict=True):
        assert ours.name == theirs.name
        assert tuple(evaluate(size, values) for size in ours.grid) == theirs.grid
        assert {name: evaluate(size, values) for name, size in ours.integers.items()} == theirs.integers
        assert ours.constants == theirs.constants
    for name, buffer in opened.buffers.items():
        assert tuple(evaluate(size, values) for size in buffer.shape) == plain.buffers[name].shape
        assert buffer.dtype == plain.buffers[name].dtype


@pytest.mark.parametrize("fused", FUSED, ids=lambda fused: fused.name)
def test_inputs_are_the_plan_s(fused: Fused) -> None:
    plain = fused.plan(shapes(fused, REQUESTS[1]), torch.float16)
    assert list(fused.inputs) == list(plain.inputs)
    for name, shape in shapes(fused, REQUESTS[1]).items():
        assert plain.buffers[name].shape == shape


def compiler_that_needs(shared: Callable[[Launch], int]) -> Callable[..., Compiled]:
    def compiler(plan: Plan, launch: Launch, capability: int, ptx_version: int) -> Compiled:
        compiled = pretend_to_compile(plan, launch, capability, ptx_version)
        return dataclasses.replace(compiled, shared_bytes=shared(launch))

    return compiler


def fitted(shared: Callable[[Launch], int], form: str = "paper") -> tuple[Chain, dict[str, Launch]]:
    """The chain of a fusion in float32, and its launches as they were compiled last."""
    last: dict[str, Launch] = {}

    def noting(plan: Plan, launch: Launch, capability: int, ptx_version: int) -> Compiled:
        last[launch.name] = launch
        return compiler_that_needs(shared)(plan, launch, capability, ptx_version)

    fused: Any = partial(plugin_operators.audio_visual_fusion, form, 4096, 256, 128)
    blocks = blocks_of(torch.float32, "sm_90", 90)
    return plugin_operators.fitting_chain(fused, torch.float32, 90, blocks, compiler=noting), last


def test_kernels_that_fit_keep_their_block_sizes() -> None:
    chain, launches = fitted(lambda launch: 48 * 1024)
    table = blocks_of(torch.float32, "sm_90", 90)
    for name, launch in launches.items():
        assert table[name].sizes.items() <= launch.constants.items()
        assert launch.num_stages == table[name].num_stages
    assert not chain.larger_than(48 * 1024)


def test_a_kernel_that_is_too_large_is_cut_otherwise() -> None:
    """First with fewer loads in flight, then as another table has it; the others stay as they are."""
    table = blocks_of(torch.float32, "sm_90", 90)
    assert table["paper_sums"].num_stages == 2

    def shared(launch: Launch) -> int:
        return 32 * 1024 * launch.num_stages if launch.name == "paper_sums" else 1024

    chain, launches = fitted(shared)
    assert [kernel.shared_bytes for kernel in chain.kernels if kernel.function == "paper_sums"] == [32 * 1024]
    assert launches["paper_sums"].constants["BLOCK_P"] == table["paper_sums"].sizes["BLOCK_P"]

    def by_pixels(launch: Launch) -> int:
        return 1024 * int(launch.constants["BLOCK_P"]) if launch.name == "paper_sums" else 1024

    chain, launches = fitted(by_pixels)
    assert launches["paper_sums"].constants["BLOCK_P"] == 32 < table["paper_sums"].sizes["BLOCK_P"]
    assert launches["paper_sums"].num_stages == 2
    (sums,) = (kernel for kernel in chain.kernels if kernel.function == "paper_sums")
    assert sums.shared_bytes == 32 * 1024
    # The grid follows the new blocks.
    names = {name: Expression("size", name) for name in ("T", "M")}
    grid = tuple(evaluate(size, {names["T"]: 5, names["M"]: 5}) for size in sums.grid)
    assert grid == (5 * 4096 // (32 * int(launches["paper_sums"].constants["TILES"])), 1, 1)


def test_kernels_that_fit_in_no_way_are_named_together() -> None:
    wrong = {"paper_mix", "finish_sound"}
    with pytest.raises(
        KernelError, match=r"paper_mix needs 60000, finish_sound needs 60000 bytes of shared memory; no"
    ):
        fitted(lambda launch: 60_000 if launch.name in wrong else 1024)


def test_other_cuts_are_tried_once_each() -> None:
    own = Blocks({"BLOCK_M": 16, "BLOCK_C": 32}, 8, 2)
    cuts = list(plugin_operators._other_cuts("released_sums", own, torch.float32))
    assert cuts[0] == dataclasses.replace(own, num_stages=1)
    assert own not in cuts
    assert all(cuts.count(cut) == 1 for cut in cuts)
