"""What the plan of memory attention refuses, and how it cuts the work."""

from dataclasses import replace

import pytest
import torch

from kernels.launching.errors import KernelError
from kernels.memory_attention.plan import (
    ATTEND,
    DTYPES,
    MAX_SLICES,
    MERGE,
    UNKNOWN_SLICES,
    MemoryAttentionSizes,
    default_blocks,
    num_slices,
    plan,
    sizes_of,
)

CAPABILITIES = [80, 86, 89, 90, 100, 120]
LARGEST = MemoryAttentionSizes(4096, 7 * 4096 + 64, 64, 256, 64)


@pytest.mark.parametrize("num_queries", [1, 196, 256, 1024, 4096])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_slices_cover_the_keys(capability: int, dtype: torch.dtype, num_queries: int) -> None:
    blocks = default_blocks(dtype, capability)
    made = plan(MemoryAttentionSizes(num_queries, 7 * num_queries + 3, 3, 256, 64), dtype, blocks)
    attend, merge = (next(x for x in made.launches if x.name == name) for name in (ATTEND, MERGE))
    slices, slice_keys = attend.grid[1], attend.integers["slice_keys"]
    assert slices == merge.constants["NUM_SLICES"] == made.buffers["partial"].shape[0]
    assert slices * slice_keys >= 7 * num_queries + 3
    assert slice_keys % blocks[ATTEND].sizes["BLOCK_K"] == 0
    assert 2 <= slices <= MAX_SLICES <= blocks[MERGE].sizes["BLOCK_ROWS"]
    assert attend.grid[0] * blocks[ATTEND].sizes["BLOCK_Q"] >= num_queries


def test_small_maps_get_more_slices() -> None:
    assert [num_slices(count, 128) for count in (196, 256, 1024, 4096)] == [32, 32, 32, 8]


class Symbol:
    """A size that a builder knows later. Knows no comparison and no truth value, so a plan cannot depend on it."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, text: str) -> None:
        self.text = text

    def _join(self, operation: str, other: object) -> "Symbol":
        return Symbol(f"({self.text} {operation} {getattr(other, 'text', other)})")

    def __add__(self, other: object) -> "Symbol":
        return self._join("+", other)

    def __sub__(self, other: object) -> "Symbol":
        return self._join("-", other)

    def __mul__(self, other: object) -> "Symbol":
        return self._join("*", other)

    def __floordiv__(self, other: object) -> "Symbol":
        return self._join("//", other)

    def __bool__(self) -> bool:
        raise AssertionError(f"{self.text} has no value yet")

    def __eq__(self, other: object) -> bool:
        raise AssertionError(f"{self.text} has no value yet")


def test_counts_may_be_symbolic() -> None:
    """Evaluated later, the expressions are what a plan of those numbers has."""
    symbolic = MemoryAttentionSizes(Symbol("nq"), Symbol("nk"), Symbol("nu"), 256, 64)
    blocks = default_blocks(torch.float16, 90)
    made, known = plan(symbolic, torch.float16, blocks), plan(LARGEST, torch.float16, blocks)
    values = {"nq": 4096, "nk": 7 * 4096 + 64, "nu": 64}

    def value(size: object) -> object:
        return eval(size.text, {}, values) if isinstance(size, Symbol) else size

    assert num_slices(4096, 128) == UNKNOWN_SLICES
    for ours, theirs in zip(made.launches, known.launches, strict=True):
        assert tuple(map(value, ours.grid)) == theirs.grid
        assert {name: value(size) for name, size in ours.integers.items()} == theirs.integers
        assert ours.constants == theirs.constants
    for name, buffer in made.buffers.items():
        assert tuple(map(value, buffer.shape)) == known.buffers[name].shape


@pytest.mark.parametrize(
    ("change", "named"),
    [
        pytest.param({"width": 64}, r"\(128, 256\)", id="width"),
        pytest.param({"value_width": 256}, r"\(16, 32, 64\)", id="value-width"),
        pytest.param({"num_queries": 0}, "at least one", id="no-queries"),
        pytest.param({"num_keys": 0, "num_unrotated": 0}, "at least one", id="no-keys"),
        pytest.param({"num_unrotated": -1}, "0 to 28736", id="negative"),
        pytest.param({"num_unrotated": 28737}, "0 to 28736", id="more-pointers-than-keys"),
        pytest.param({"num_unrotated": 63}, "multiple of 4096", id="part-of-a-frame"),
        pytest.param({"num_keys": 2**23 + 64}, r"under 2\^31", id="too-many-keys"),
    ],
)
def test_limits(change: dict[str, int], named: str) -> None:
    blocks = default_blocks(torch.float16, 90)
    plan(LARGEST, torch.float16, blocks)
    with pytest.raises(KernelError, match=named):
        plan(replace(LARGEST, **change), torch.float16, blocks)


def test_dtypes_and_capabilities_are_named() -> None:
    with pytest.raises(KernelError, match="float64 is not supported"):
        plan(LARGEST, torch.float64, default_blocks(torch.float32, 90))
    with pytest.raises(KernelError, match="float64 is not supported"):
        default_blocks(torch.float64, 90)
    with pytest.raises(KernelError, match="capability 75 has no block sizes"):
        default_blocks(torch.float16, 75)


def test_tables_of_another_dtype_are_refused() -> None:
    query, key, value, table = torch.zeros(4, 128), torch.zeros(8, 128), torch.zeros(8, 32), torch.zeros(4, 64)
    assert sizes_of(query, key, value, table, table, 4) == MemoryAttentionSizes(4, 8, 4, 128, 32)
    with pytest.raises(KernelError, match="rotary tables in float32"):
        sizes_of(query, key, value, table.double(), table.double(), 4)
    with pytest.raises(KernelError, match="as wide as query"):
        sizes_of(query[:, :64], key, value, table, table, 4)
