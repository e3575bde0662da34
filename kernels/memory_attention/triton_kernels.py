"""Memory cross-attention as Triton kernels, forward only: rotate queries and keys, attend within slices of keys, merge.

Maths   O = softmax(R(Q) R(K)^T / sqrt(C)) M     Q [Nq, C]   K [Nk, C]   M [Nk, Dv]   O [Nq, Dv]
        R rotates each pair (x[2i], x[2i+1]) of row n by row n mod Nq of a table of angles; the last keys do not rotate.
Source  SAM2's memory attention, with its values projected after the attention (auralsam2/network/memory.py says why
        it is exact); the softmax is computed in one pass as in FlashAttention, and slices of keys run at the same time.
Dtypes  float32, float16 or bfloat16 in and out; rotation, logits and sums in float32.
Cost    2 Nq Nk (C + Dv) FLOP. For Nq = 4096, Nk = 28736, C = 256, Dv = 64: 75 GFLOP.
"""

import triton
import triton.language as tl


@triton.jit
def rotate_memory(
    query,
    key,
    cos,
    sin,
    num_queries,
    num_keys,
    num_rotated,
    rotated,
    WIDTH: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
):
    """Rotary positions, once; blocks of queries that rotated the keys they read would do it once each.

    `rotated` [Nq + Nk, C] holds queries, then keys. Key n is row Nq + n, so row mod Nq finds the angles of both.
    """
    row = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    feature = tl.arange(0, WIDTH)[None, :]
    is_query = (row < num_queries)[:, None]
    is_key = ((row >= num_queries) & (row < num_queries + num_keys))[:, None]
    own = tl.load(query + row[:, None] * WIDTH + feature, mask=is_query, other=0.0).to(tl.float32)
    other = tl.load(key + (row - num_queries)[:, None] * WIDTH + feature, mask=is_key, other=0.0).to(tl.float32)
    angle = (row % num_queries)[:, None] * (WIDTH // 2) + tl.arange(0, WIDTH // 2)[None, :]
    has_angle = (row < num_queries + num_rotated)[:, None]
    angle_cos = tl.load(cos + angle, mask=has_angle, other=1.0)  # [BLOCK_ROWS, WIDTH / 2]
    angle_sin = tl.load(sin + angle, mask=has_angle, other=0.0)
    even, odd = tl.split(tl.reshape(own + other, [BLOCK_ROWS, WIDTH // 2, 2]))
    pairs = tl.join(even * angle_cos - odd * angle_sin, even * angle_sin + odd * angle_cos)
    tl.store(
        rotated + row[:, None] * WIDTH + feature,
        tl.reshape(pairs, [BLOCK_ROWS, WIDTH]).to(rotated.dtype.element_ty),
        mask=is_query | is_key,
    )


@triton.jit
def attend_memory(
    rotated,
    value,
    num_queries,
    num_keys,
    slice_keys,
    partial,
    row_max,
    row_sum,
    WIDTH: tl.constexpr,
    VALUE_WIDTH: tl.constexpr,
    LOGIT_SCALE: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK_K: tl.constexpr,
    DEPTH: tl.constexpr,
):
    """One block of queries over one slice of the keys: sums of weighted values before their division, and its terms.

    Logits count powers of two: LOGIT_SCALE is log2(e) / sqrt(C). A slice without keys leaves a maximum of -inf and sums
    of zero. DEPTH features enter a product at a time: all of them in 16 bits, which keeps the queries on the chip; a
    part of them in float32, where registers would not hold them.
    """
    row = tl.program_id(0) * BLOCK_Q + tl.arange(0, BLOCK_Q)
    exists = (row < num_queries)[:, None]
    feature = tl.arange(0, DEPTH)[None, :]
    value_feature = tl.arange(0, VALUE_WIDTH)[None, :]
    queries = rotated + row[:, None] * WIDTH + feature
    keys = rotated + num_queries * WIDTH + feature

    highest = tl.full([BLOCK_Q], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_Q], tl.float32)
    mixed = tl.zeros([BLOCK_Q, VALUE_WIDTH], tl.float32)
    first = tl.program_id(1) * slice_keys
    for start in range(first, tl.minimum(first + slice_keys, num_keys), BLOCK_K):
        column = start + tl.arange(0, BLOCK_K)
        is_key = column < num_keys
        logits = tl.zeros([BLOCK_Q, BLOCK_K], tl.float32)
        for depth in range(0, WIDTH, DEPTH):
            q = tl.load(queries + depth, mask=exists, other=0.0)  # [BLOCK_Q, DEPTH]
            k = tl.load(keys + depth + column[:, None] * WIDTH, mask=is_key[:, None], other=0.0)  # [BLOCK_K, DEPTH]
            logits = tl.dot(q, tl.trans(k), logits, input_precision=PRECISION)
        logits = tl.where(is_key[None, :], logits * LOGIT_SCALE, float("-inf"))
        raised = tl.maximum(highest, tl.max(logits, 1))
        weights = tl.exp2(logits - raised[:, None])
        faded = tl.exp2(highest - raised)
        total = total * faded + tl.sum(weights, 1)
        v = tl.load(value + column[:, None] * VALUE_WIDTH + value_feature, mask=is_key[:, None], other=0.0)
        mixed = tl.dot(weights.to(v.dtype), v, mixed * faded[:, None], input_precision=PRECISION)
        highest = raised

    place = tl.program_id(1) * num_queries + row
    tl.store(partial + place[:, None] * VALUE_WIDTH + value_feature, mixed, mask=exists)
    tl.store(row_max + place, highest, mask=row < num_queries)
    tl.store(row_sum + place, total, mask=row < num_queries)


@triton.jit
def merge_memory(
    partial,
    row_max,
    row_sum,
    num_queries,
    out,
    VALUE_WIDTH: tl.constexpr,
    NUM_SLICES: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
):
    """The slices' sums brought to one maximum, added, divided. BLOCK_ROWS counts rows of `partial`, of all slices."""
    BLOCK_Q: tl.constexpr = BLOCK_ROWS // NUM_SLICES
    row = tl.program_id(0) * BLOCK_Q + tl.arange(0, BLOCK_Q)
    value_feature = tl.arange(0, VALUE_WIDTH)
    place = tl.arange(0, NUM_SLICES)[:, None] * num_queries + row[None, :]
    exists = (row < num_queries)[None, :]
    slice_max = tl.load(row_max + place, mask=exists, other=0.0)  # [NUM_SLICES, BLOCK_Q]
    weights = tl.exp2(slice_max - tl.max(slice_max, 0)[None, :])
    total = tl.sum(weights * tl.load(row_sum + place, mask=exists, other=1.0), 0)
    sums = tl.load(
        partial + place[:, :, None] * VALUE_WIDTH + value_feature[None, None, :], mask=exists[:, :, None], other=0.0
    )  # [NUM_SLICES, BLOCK_Q, VALUE_WIDTH]
    mixed = tl.sum(sums * weights[:, :, None], 0) / total[:, None]
    tl.store(
        out + row[:, None] * VALUE_WIDTH + value_feature[None, :],
        mixed.to(out.dtype.element_ty),
        mask=(row < num_queries)[:, None],
    )
