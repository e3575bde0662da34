"""The launches of memory cross-attention, and how the work is cut on each kind of GPU.

rotate_memory  rotary positions of queries and keys, each once, into one scratch buffer
attend_memory  a block of queries over a slice of the keys: 4096 queries are 32 blocks, fewer than any of these GPUs
               has multiprocessors, so the keys are sliced until there is work for all
merge_memory   the slices to one result
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.launching.errors import KernelError
from kernels.launching.launch import Blocks, Buffer, Launch, Plan, Size, cdiv
from kernels.memory_attention.pytorch import check_agreement, check_counts
from kernels.memory_attention.triton_kernels import attend_memory, merge_memory, rotate_memory

ROTATE, ATTEND, MERGE = rotate_memory.__name__, attend_memory.__name__, merge_memory.__name__
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
WIDTHS = (128, 256)
VALUE_WIDTHS = (16, 32, 64)
MAX_ELEMENTS = 2**31
"""Of a buffer: kernels count elements in 32 bits."""

FILLING_PROGRAMS = 256
"""About two rounds: 96 KiB of shared memory or 200 registers a thread leave a multiprocessor one program at a time."""
MAX_SLICES = 32
"""What is left to a program, of 256 queries and the memory of seven frames, is one block of 64 keys."""
UNKNOWN_SLICES = 8
"""As for 4096 queries."""

_LARGE_SHARED_MEMORY = {"BLOCK_Q": 128, "BLOCK_K": 64, "DEPTH": 256}
_SMALL_SHARED_MEMORY = {"BLOCK_Q": 128, "BLOCK_K": 32, "DEPTH": 256}
_BLOCKS_16_BIT = {
    80: Blocks(_LARGE_SHARED_MEMORY, num_warps=8, num_stages=3),
    86: Blocks(_SMALL_SHARED_MEMORY, num_warps=8, num_stages=2),
    89: Blocks(_SMALL_SHARED_MEMORY, num_warps=8, num_stages=2),
    90: Blocks(_LARGE_SHARED_MEMORY, num_warps=8, num_stages=3),
    100: Blocks(_LARGE_SHARED_MEMORY, num_warps=8, num_stages=2),
    120: Blocks(_SMALL_SHARED_MEMORY, num_warps=8, num_stages=2),
}
_BLOCKS_FLOAT32 = Blocks({"BLOCK_Q": 128, "BLOCK_K": 32, "DEPTH": 32}, num_warps=8, num_stages=3)


@dataclass(frozen=True)
class MemoryAttentionSizes:
    """One call's sizes. The counts may be symbolic; the widths are known when kernels are compiled."""

    num_queries: Size
    num_keys: Size
    num_unrotated: Size
    """How many keys, the last ones, have no rotary positions."""
    width: int
    value_width: int


def sizes_of(
    query: Tensor, key: Tensor, value: Tensor, cos: Tensor, sin: Tensor, num_unrotated: int
) -> MemoryAttentionSizes:
    """Read the sizes of one call. Raises KernelError when tensors do not agree, or the tables are not float32."""
    check_agreement(query, key, value, cos, sin, num_unrotated)
    if cos.dtype != torch.float32 or sin.dtype != torch.float32:
        raise KernelError(f"cos is {cos.dtype} and sin {sin.dtype}; the kernels read rotary tables in float32.")
    return MemoryAttentionSizes(query.shape[0], key.shape[0], num_unrotated, query.shape[1], value.shape[1])


def default_blocks(dtype: torch.dtype, capability: int) -> dict[str, Blocks]:
    """Choose block sizes, by kernel, that fit registers without spills and shared memory; 99 KiB on 86, 89, 120.

    Wider blocks of queries read the keys fewer times, so all take 128. In 16 bits 64 keys at a time fit where shared
    memory is large, 32 elsewhere. A product of float32 is three of tf32, whose factors fill the registers: 32 keys by
    32 features at a time are the most that do not spill below capability 90.

    Args:
        capability: compute capability without its point: 80, 86, 89, 90, 100 or 120.
    Raises: KernelError for another dtype or capability.
    """
    _check_dtype(dtype)
    if capability not in _BLOCKS_16_BIT:
        raise KernelError(f"compute capability {capability} has no block sizes; known are {sorted(_BLOCKS_16_BIT)}.")
    return {
        ROTATE: Blocks({"BLOCK_ROWS": 16}, num_warps=4, num_stages=1),
        ATTEND: _BLOCKS_FLOAT32 if dtype == torch.float32 else _BLOCKS_16_BIT[capability],
        MERGE: Blocks({"BLOCK_ROWS": 64}, num_warps=4, num_stages=1),
    }


def num_slices(num_queries: Size, block_q: int) -> int:
    """Choose how many slices the keys are cut into; a power of two, so that merging holds them side by side.

    Enough for two rounds of programs where the number of queries is known when the plan is made; UNKNOWN_SLICES if not.
    """
    if not isinstance(num_queries, int):
        return UNKNOWN_SLICES
    slices = 2
    while slices < MAX_SLICES and slices * cdiv(num_queries, block_q) < FILLING_PROGRAMS:
        slices *= 2
    return slices


def plan(sizes: MemoryAttentionSizes, dtype: torch.dtype, blocks: Mapping[str, Blocks]) -> Plan:
    """Plan the launches that compute `memory_attention` for these sizes.

    Args:
        blocks: of the three kernels by name, each size a power of two: BLOCK_ROWS of `rotate_memory`; BLOCK_Q, BLOCK_K
            and DEPTH, the features of one product, of `attend_memory`; BLOCK_ROWS of `merge_memory`, queries times
            slices, at least MAX_SLICES.
    Returns: a plan with inputs query, key, value, cos, sin and the output `out` [Nq, Dv] in `dtype`.
    Raises: KernelError when a dtype, a width or a count is not supported.
    """
    block_q, block_k, depth = (blocks[ATTEND].sizes[name] for name in ("BLOCK_Q", "BLOCK_K", "DEPTH"))
    slices = num_slices(sizes.num_queries, block_q)
    _check(sizes, dtype, slices)
    num_queries, num_keys, width, value_width = sizes.num_queries, sizes.num_keys, sizes.width, sizes.value_width
    rotated_rows, merged_rows = (blocks[name].sizes["BLOCK_ROWS"] for name in (ROTATE, MERGE))
    buffers = {
        "query": Buffer((num_queries, width), dtype),
        "key": Buffer((num_keys, width), dtype),
        "value": Buffer((num_keys, value_width), dtype),
        "cos": Buffer((num_queries, width // 2), torch.float32),
        "sin": Buffer((num_queries, width // 2), torch.float32),
        "rotated": Buffer((num_queries + num_keys, width), dtype),
        "partial": Buffer((slices, num_queries, value_width), torch.float32),
        "row_max": Buffer((slices, num_queries), torch.float32),
        "row_sum": Buffer((slices, num_queries), torch.float32),
        "out": Buffer((num_queries, value_width), dtype),
    }
    rotate = Launch(
        kernel=rotate_memory,
        inputs={name: name for name in ("query", "key", "cos", "sin")},
        integers={"num_queries": num_queries, "num_keys": num_keys, "num_rotated": num_keys - sizes.num_unrotated},
        outputs={"rotated": "rotated"},
        constants={"WIDTH": width, "BLOCK_ROWS": rotated_rows},
        grid=(cdiv(num_queries + num_keys, rotated_rows), 1, 1),
        num_warps=blocks[ROTATE].num_warps,
        num_stages=blocks[ROTATE].num_stages,
    )
    attend = Launch(
        kernel=attend_memory,
        inputs={name: name for name in ("rotated", "value")},
        integers={
            "num_queries": num_queries,
            "num_keys": num_keys,
            "slice_keys": cdiv(num_keys, slices * block_k) * block_k,
        },
        outputs={name: name for name in ("partial", "row_max", "row_sum")},
        constants={
            "WIDTH": width,
            "VALUE_WIDTH": value_width,
            "LOGIT_SCALE": math.log2(math.e) / math.sqrt(width),
            "PRECISION": "tf32x3",
            "BLOCK_Q": block_q,
            "BLOCK_K": block_k,
            "DEPTH": min(depth, width),
        },
        grid=(cdiv(num_queries, block_q), slices, 1),
        num_warps=blocks[ATTEND].num_warps,
        num_stages=blocks[ATTEND].num_stages,
    )
    merge = Launch(
        kernel=merge_memory,
        inputs={name: name for name in ("partial", "row_max", "row_sum")},
        integers={"num_queries": num_queries},
        outputs={"out": "out"},
        constants={"VALUE_WIDTH": value_width, "NUM_SLICES": slices, "BLOCK_ROWS": merged_rows},
        grid=(cdiv(num_queries, merged_rows // slices), 1, 1),
        num_warps=blocks[MERGE].num_warps,
        num_stages=blocks[MERGE].num_stages,
    )
    return Plan(buffers, ("query", "key", "value", "cos", "sin"), ("out",), (rotate, attend, merge))


def _check_dtype(dtype: torch.dtype) -> None:
    if dtype not in DTYPES:
        raise KernelError(f"{dtype} is not supported by memory attention; use one of {DTYPES}.")


def _check(sizes: MemoryAttentionSizes, dtype: torch.dtype, slices: int) -> None:
    _check_dtype(dtype)
    width, value_width = sizes.width, sizes.value_width
    if width not in WIDTHS or value_width not in VALUE_WIDTHS:
        raise KernelError(
            f"queries are {width} wide, values {value_width}; the kernels support {WIDTHS} and {VALUE_WIDTHS}."
        )
    num_queries, num_keys, num_unrotated = sizes.num_queries, sizes.num_keys, sizes.num_unrotated
    if not all(isinstance(count, int) for count in (num_queries, num_keys, num_unrotated)):
        return
    check_counts(num_queries, num_keys, num_unrotated)
    largest = max((num_queries + num_keys) * width, slices * num_queries * value_width)
    if largest >= MAX_ELEMENTS:
        raise KernelError(
            f"{num_queries} queries and {num_keys} keys make a buffer of {largest} elements; must be under 2^31."
        )
