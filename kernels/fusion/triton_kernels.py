"""The fusion's Triton kernels: order in `plan.py`, maths in `pytorch.py`. Long because all twelve share their helpers.

x is the frames' tokens [T, h w, C], M the number of audio tokens, N = T h w. A matrix product of x takes the type of x
and adds in float32. What lies between two products is float32: on its way into a product with x or a weight each of its
rows is divided by its largest element first, so that half precision never overflows and loses no more than its
mantissa. Products of two float32 tiles run on tensor cores as PRECISION says: "tf32x3" for float32 (three products,
about 21 bits), "tf32" beside 16-bit types (10 bits, those of float16, with the range of float32).
"""

import triton
import triton.language as tl

from kernels.fusion.weights import NORM_EPS

EPS = tl.constexpr(NORM_EPS)
"""Of both layer norms."""


@triton.jit
def _row_scale(rows):
    """[R, 1]: what to divide each row by. 1 for a row of zeros."""
    largest = tl.max(tl.abs(rows), axis=1)
    return tl.where(largest > 0, largest, 1.0)[:, None]


@triton.jit
def _dot_scaled(rows, matrix, PRECISION: tl.constexpr):
    """rows [R, K] float32 times matrix [K, L] of any type, in the matrix's type, [R, L] float32."""
    if matrix.dtype == tl.float32:
        product = tl.dot(rows, matrix, input_precision=PRECISION)
    else:
        scale = _row_scale(rows)
        product = tl.dot((rows / scale).to(matrix.dtype), matrix) * scale
    return product


@triton.jit
def _normalise(rows, scale, bias, C: tl.constexpr):
    """Layer norm of rows [R, C] float32."""
    centred = rows - (tl.sum(rows, axis=1) / C)[:, None]
    variance = tl.sum(centred * centred, axis=1) / C
    return centred * (1.0 / tl.sqrt(variance + EPS))[:, None] * scale[None, :] + bias[None, :]


@triton.jit
def project_sound(
    audio, weight, bias, num_tokens, projected, C: tl.constexpr, WIDE: tl.constexpr, BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """audio [M, C] -> projected [M, WIDE] float32: aligned tokens, queries, keys, values."""
    m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    n = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    inside = (m < num_tokens)[:, None]
    out = tl.zeros([BLOCK_M, BLOCK_N], dtype=tl.float32)
    for start in range(0, C, BLOCK_C):
        c = start + tl.arange(0, BLOCK_C)
        rows = tl.load(audio + m[:, None] * C + c[None, :], mask=inside, other=0.0)
        out += tl.dot(rows, tl.load(weight + n[None, :] * C + c[:, None]), input_precision=PRECISION)
    out += tl.load(bias + n).to(tl.float32)[None, :]
    tl.store(projected + m[:, None] * WIDE + n[None, :], out, mask=inside)


@triton.jit
def released_sums(
    x, weight, bias, projected, num_tokens, scores, sums, C: tl.constexpr, D: tl.constexpr, BLOCK_M: tl.constexpr,
    BLOCK_C: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One block of D pixels: its scores [M, D] against every token, and what it adds to the audio result.

    x [blocks, D, C]; weight [3 D, C]; projected [M, C + 3 D] -> scores and sums, each [blocks, M, D] float32.
    With BLOCK_C = C a block of x is read once; with less it is read twice, the second time from cache.
    """
    block = tl.program_id(0)
    m = tl.program_id(1) * BLOCK_M + tl.arange(0, BLOCK_M)
    inside = (m < num_tokens)[:, None]
    d = tl.arange(0, D)
    c = tl.arange(0, BLOCK_C)
    tokens = projected + m[:, None] * (C + 3 * D) + C + d[None, :]
    queries = tl.load(tokens, mask=inside, other=0.0)
    keys = tl.load(tokens + D, mask=inside, other=0.0)
    b_q = tl.load(bias + d).to(tl.float32)
    b_k = tl.load(bias + D + d).to(tl.float32)
    b_v = tl.load(bias + 2 * D + d).to(tl.float32)
    pixels = x + (block * D + d[:, None]) * C + c[None, :]  # [D, BLOCK_C]
    w = weight + d[None, :] * C + c[:, None]  # [BLOCK_C, D], transposed
    score = tl.sum(keys, axis=1)[:, None] * b_q[None, :]
    weighed = tl.sum(queries, axis=1)[:, None] * b_k[None, :]
    if BLOCK_C == C:
        tile = tl.load(pixels)
        score += _dot_scaled(_dot_scaled(keys, tile, PRECISION), tl.load(w), PRECISION)
        weighed += _dot_scaled(_dot_scaled(queries, tile, PRECISION), tl.load(w + D * C), PRECISION)
        turned = _dot_scaled(weighed, tl.trans(tl.load(w + 2 * D * C)), PRECISION)
        total = _dot_scaled(turned, tl.trans(tile), PRECISION)
    else:
        for _ in range(0, C, BLOCK_C):
            tile = tl.load(pixels)
            score += _dot_scaled(_dot_scaled(keys, tile, PRECISION), tl.load(w), PRECISION)
            weighed += _dot_scaled(_dot_scaled(queries, tile, PRECISION), tl.load(w + D * C), PRECISION)
            pixels += BLOCK_C
            w += BLOCK_C
        total = tl.zeros([BLOCK_M, D], dtype=tl.float32)
        pixels -= C
        w += 2 * D * C - C
        for _ in range(0, C, BLOCK_C):
            turned = _dot_scaled(weighed, tl.trans(tl.load(w)), PRECISION)
            total += _dot_scaled(turned, tl.trans(tl.load(pixels)), PRECISION)
            pixels += BLOCK_C
            w += BLOCK_C
    total += tl.sum(weighed * b_v[None, :], axis=1)[:, None]
    place = (block * num_tokens + m[:, None]) * D + d[None, :]
    tl.store(scores + place, score, mask=inside)
    tl.store(sums + place, total, mask=inside)


@triton.jit
def project_visual(
    x, weight, bias, num_pixels, num_frames, rows, C: tl.constexpr, D: tl.constexpr, BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """x [T, h w, C] -> rows [3, T, D, h w] float32, for maps where a row straddles channels."""
    p = tl.program_id(0) * BLOCK_P + tl.arange(0, BLOCK_P)
    frame = tl.program_id(1)
    which = tl.program_id(2)
    d = tl.arange(0, D)
    inside = p < num_pixels
    out = tl.zeros([D, BLOCK_P], dtype=tl.float32)
    for start in range(0, C, BLOCK_C):
        c = start + tl.arange(0, BLOCK_C)
        tile = tl.load(x + (frame * num_pixels + p[None, :]) * C + c[:, None], mask=inside[None, :], other=0.0)
        w = tl.load(weight + (which * D + d[:, None]) * C + c[None, :])
        out += tl.dot(w, tile, input_precision=PRECISION)
    out += tl.load(bias + which * D + d).to(tl.float32)[:, None]
    place = ((which * num_frames + frame) * D + d[:, None]) * num_pixels + p[None, :]
    tl.store(rows + place, out, mask=inside[None, :])


@triton.jit
def straddling_sums(
    rows, projected, num_tokens, num_pixels, num_frames, scores, sums, C: tl.constexpr, D: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_P: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The same results as `released_sums` from the projections, whose memory is read as rows of D numbers.

    rows [3, T, h w, D] (the memory of [3, T, D, h w]) -> scores [T, M, h w], sums [T, chunks, M, D] float32.
    """
    chunk = tl.program_id(0)
    frame = tl.program_id(1)
    m = tl.program_id(2) * BLOCK_M + tl.arange(0, BLOCK_M)
    r = chunk * BLOCK_P + tl.arange(0, BLOCK_P)
    d = tl.arange(0, D)
    inside = (m < num_tokens)[:, None]
    valid = (r < num_pixels)[:, None]
    tokens = projected + m[:, None] * (C + 3 * D) + C + d[None, :]
    queries = tl.load(tokens, mask=inside, other=0.0)
    keys = tl.load(tokens + D, mask=inside, other=0.0)
    place = (frame * num_pixels + r[:, None]) * D + d[None, :]
    step = num_frames * num_pixels * D
    row_q = tl.load(rows + place, mask=valid, other=0.0)
    row_k = tl.load(rows + step + place, mask=valid, other=0.0)
    row_v = tl.load(rows + 2 * step + place, mask=valid, other=0.0)
    score = tl.dot(keys, tl.trans(row_q), input_precision=PRECISION)  # [BLOCK_M, BLOCK_P]
    weighed = tl.dot(queries, tl.trans(row_k), input_precision=PRECISION)
    total = tl.dot(weighed, row_v, input_precision=PRECISION)
    tl.store(
        scores + (frame * num_tokens + m[:, None]) * num_pixels + r[None, :], score, mask=inside & (r < num_pixels)
    )
    part = frame * tl.num_programs(0) + chunk
    tl.store(sums + (part * num_tokens + m[:, None]) * D + d[None, :], total, mask=inside)


@triton.jit
def mixing_weights(
    projected, frame_out, num_tokens, num_frames, mixing, C: tl.constexpr, D: tl.constexpr, BLOCK_K: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The way from scores to output channels, mixing [T, T M, C] float32.

    Channel j = t D + c of the frame result takes frame j % T of the scores and feature j // T of the values.
    """
    k = tl.program_id(0) * BLOCK_K + tl.arange(0, BLOCK_K)
    n = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    frame = tl.program_id(2)
    rank = num_frames * num_tokens
    out = tl.zeros([BLOCK_K, BLOCK_N], dtype=tl.float32)
    for start in range(0, D, BLOCK_D):
        d = start + tl.arange(0, BLOCK_D)
        j = frame * D + d
        chosen = (k[:, None] < rank) & (k[:, None] // num_tokens == j[None, :] % num_frames)
        values = projected + (k % num_tokens)[:, None] * (C + 3 * D) + C + 2 * D + (j // num_frames)[None, :]
        value = tl.load(values, mask=chosen, other=0.0)
        out += _dot_scaled(value, tl.load(frame_out + n[None, :] * D + d[:, None]), PRECISION)
    tl.store(mixing + (frame * rank + k[:, None]) * C + n[None, :], out, mask=(k < rank)[:, None])


@triton.jit
def released_mix(
    x, scores, mixing, frame_out_bias, norm, norm_bias, num_tokens, num_frames, num_pixels, num_blocks, out,
    C: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_K: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Scores times mixing weights, bias, residual, layer norm: out [T, h w, C].

    scores [T, num_blocks, M, h w / num_blocks]: pixel p of a frame is element p // num_blocks of block p % num_blocks.
    """
    p = tl.program_id(0) * BLOCK_P + tl.arange(0, BLOCK_P)
    frame = tl.program_id(1)
    c = tl.arange(0, C)
    inside = (p < num_pixels)[:, None]
    rank = num_frames * num_tokens
    wide = num_pixels // num_blocks
    own = (p % num_blocks) * (num_tokens * wide) + p // num_blocks
    mixed = tl.zeros([BLOCK_P, C], dtype=tl.float32)
    for start in range(0, rank, BLOCK_K):
        k = start + tl.arange(0, BLOCK_K)
        whose = (k // num_tokens) * (num_pixels * num_tokens) + (k % num_tokens) * wide
        score = tl.load(scores + own[:, None] + whose[None, :], mask=inside & (k < rank)[None, :], other=0.0)
        u = tl.load(mixing + (frame * rank + k[:, None]) * C + c[None, :], mask=(k < rank)[:, None], other=0.0)
        mixed += tl.dot(score, u, input_precision=PRECISION)
    place = (frame * num_pixels + p[:, None]) * C + c[None, :]
    mixed = mixed / (num_frames * num_pixels).to(tl.float32) + tl.load(frame_out_bias + c).to(tl.float32)[None, :]
    mixed += tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
    scale = tl.load(norm + c).to(tl.float32)
    normal = _normalise(mixed, scale, tl.load(norm_bias + c).to(tl.float32), C)
    tl.store(out + place, normal.to(out.dtype.element_ty), mask=inside)


@triton.jit
def add_up_sound(
    sums, num_tokens, num_parts, num_rows, sound, D: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_D: tl.constexpr
):
    """The audio result of all parts together: sums [parts, M, D] -> sound [M, D] float32.

    Transposed and read as [M, D] again, as released: element f of row m is element i = m D + f of [D, M].
    """
    i = tl.program_id(0) * D + tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    place = (i % num_tokens) * D + i // num_tokens
    total = tl.zeros([BLOCK_D], dtype=tl.float32)
    for start in range(0, num_parts, BLOCK_S):
        part = start + tl.arange(0, BLOCK_S)
        here = sums + part[:, None] * (num_tokens * D) + place[None, :]
        total += tl.sum(tl.load(here, mask=(part < num_parts)[:, None], other=0.0), axis=0)
    tl.store(sound + i, total / num_rows.to(tl.float32))


@triton.jit
def finish_sound(
    sound, projected, sound_out, sound_out_bias, norm, norm_bias, num_tokens, out, C: tl.constexpr, D: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """sound [M, D] back to C channels, plus the aligned tokens, layer norm: out [M, C]."""
    m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    c = tl.arange(0, C)
    inside = (m < num_tokens)[:, None]
    wide = tl.zeros([BLOCK_M, C], dtype=tl.float32)
    for start in range(0, D, BLOCK_D):
        d = start + tl.arange(0, BLOCK_D)
        rows = tl.load(sound + m[:, None] * D + d[None, :], mask=inside, other=0.0)
        wide += _dot_scaled(rows, tl.load(sound_out + c[None, :] * D + d[:, None]), PRECISION)
    wide += tl.load(sound_out_bias + c).to(tl.float32)[None, :]
    wide += tl.load(projected + m[:, None] * (C + 3 * D) + c[None, :], mask=inside, other=0.0)
    normal = _normalise(wide, tl.load(norm + c).to(tl.float32), tl.load(norm_bias + c).to(tl.float32), C)
    tl.store(out + m[:, None] * C + c[None, :], normal.to(out.dtype.element_ty), mask=inside)


@triton.jit
def paper_tokens(
    projected, weight, bias, frame_out, num_tokens, folded, offsets, C: tl.constexpr, D: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The M tokens as the frames' tokens meet them: folded [3, M, C], offsets [M], float32.

    folded: 0, keys through the frames' query weights; 1, queries through their key weights; 2, values on the way back
    to C channels. offsets: keys times the frames' query bias. The key bias is the same for every pixel and falls away.
    """
    n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    m = tl.program_id(1) * BLOCK_M + tl.arange(0, BLOCK_M)
    which = tl.program_id(2)
    d = tl.arange(0, D)
    inside = (m < num_tokens)[:, None]
    source = tl.where(which == 0, 1, tl.where(which == 1, 0, 2))  # of queries, keys, values
    tokens = projected + m[:, None] * (C + 3 * D) + C + source * D + d[None, :]
    rows = tl.load(tokens, mask=inside, other=0.0)
    if which == 2:
        w = tl.load(frame_out + n[None, :] * D + d[:, None])
    else:
        w = tl.load(weight + (which * D + d[:, None]) * C + n[None, :])
    out = _dot_scaled(rows, w, PRECISION)
    tl.store(folded + (which * num_tokens + m[:, None]) * C + n[None, :], out, mask=inside)
    if (which == 0) & (tl.program_id(0) == 0):
        offset = tl.sum(rows * tl.load(bias + d).to(tl.float32)[None, :], axis=1)
        tl.store(offsets + m, offset, mask=m < num_tokens)


@triton.jit
def paper_mix(
    x, folded, offsets, frame_out_bias, norm, norm_bias, num_tokens, num_rows, out, C: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr, SCALE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Frames listen: softmax over the tokens, values, bias, residual, layer norm. x and out [N, C]."""
    p = tl.program_id(0) * BLOCK_P + tl.arange(0, BLOCK_P)
    c = tl.arange(0, C)
    inside = (p < num_rows)[:, None]
    place = p[:, None] * C + c[None, :]
    peak = tl.full([BLOCK_P], float("-inf"), dtype=tl.float32)
    total = tl.zeros([BLOCK_P], dtype=tl.float32)
    heard = tl.zeros([BLOCK_P, C], dtype=tl.float32)
    for start in range(0, num_tokens, BLOCK_M):
        m = start + tl.arange(0, BLOCK_M)
        valid = (m < num_tokens)[:, None]
        score = tl.zeros([BLOCK_M, BLOCK_P], dtype=tl.float32)
        for column in range(0, C, BLOCK_C):
            k = column + tl.arange(0, BLOCK_C)
            keys = tl.load(folded + m[:, None] * C + k[None, :], mask=valid, other=0.0)
            tile = tl.load(x + p[None, :] * C + k[:, None], mask=(p < num_rows)[None, :], other=0.0)
            score += _dot_scaled(keys, tile, PRECISION)
        values = tl.load(folded + (2 * num_tokens + m[:, None]) * C + c[None, :], mask=valid, other=0.0)
        score = tl.trans(score)  # [BLOCK_P, BLOCK_M]
        score = (score + tl.load(offsets + m, mask=m < num_tokens, other=0.0)[None, :]) * SCALE
        score = tl.where((m < num_tokens)[None, :], score, float("-inf"))
        higher = tl.maximum(peak, tl.max(score, axis=1))
        share = tl.exp(score - higher[:, None])
        fade = tl.exp(peak - higher)
        total = total * fade + tl.sum(share, axis=1)
        heard = heard * fade[:, None] + tl.dot(share, values, input_precision=PRECISION)
        peak = higher
    mixed = heard / total[:, None] + tl.load(frame_out_bias + c).to(tl.float32)[None, :]
    mixed += tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
    normal = _normalise(mixed, tl.load(norm + c).to(tl.float32), tl.load(norm_bias + c).to(tl.float32), C)
    tl.store(out + place, normal.to(out.dtype.element_ty), mask=inside)


@triton.jit
def paper_sums(
    x, folded, num_tokens, num_rows, peaks, totals, sums, C: tl.constexpr, BLOCK_M: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr, TILES: tl.constexpr, SCALE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Sound looks: a streaming softmax over TILES tiles of pixels, left open for the other parts.

    x [N, C] -> for each part: peaks [parts, M], totals [parts, M], sums [parts, M, C], float32.
    """
    part = tl.program_id(0)
    m = tl.program_id(1) * BLOCK_M + tl.arange(0, BLOCK_M)
    c = tl.arange(0, C)
    inside = m < num_tokens
    peak = tl.full([BLOCK_M], float("-inf"), dtype=tl.float32)
    total = tl.zeros([BLOCK_M], dtype=tl.float32)
    seen = tl.zeros([BLOCK_M, C], dtype=tl.float32)
    for step in range(0, TILES):
        p = (part * TILES + step) * BLOCK_P + tl.arange(0, BLOCK_P)
        score = tl.zeros([BLOCK_M, BLOCK_P], dtype=tl.float32)
        for column in range(0, C, BLOCK_C):
            k = column + tl.arange(0, BLOCK_C)
            queries = tl.load(folded + (num_tokens + m[:, None]) * C + k[None, :], mask=inside[:, None], other=0.0)
            slab = tl.load(x + p[None, :] * C + k[:, None], mask=(p < num_rows)[None, :], other=0.0)
            score += _dot_scaled(queries, slab, PRECISION)
        score = tl.where((p < num_rows)[None, :], score * SCALE, float("-inf"))
        higher = tl.maximum(peak, tl.max(score, axis=1))
        steady = tl.where(higher == float("-inf"), 0.0, higher)
        share = tl.exp(score - steady[:, None])
        fade = tl.exp(peak - steady)
        total = total * fade + tl.sum(share, axis=1)
        tile = tl.load(x + p[:, None] * C + c[None, :], mask=(p < num_rows)[:, None], other=0.0)
        seen = seen * fade[:, None] + tl.dot(share.to(tile.dtype), tile, input_precision=PRECISION)
        peak = higher
    place = part * num_tokens + m
    tl.store(peaks + place, peak, mask=inside)
    tl.store(totals + place, total, mask=inside)
    tl.store(sums + place[:, None] * C + c[None, :], seen, mask=inside[:, None])


@triton.jit
def paper_sound(
    peaks, totals, sums, weight, bias, num_tokens, num_parts, sound, C: tl.constexpr, D: tl.constexpr,
    BLOCK_S: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """The parts of one token's softmax put together, then through the value weights: sound [M, D] float32."""
    m = tl.program_id(0)
    d = tl.arange(0, D)
    peak = tl.full([1], float("-inf"), dtype=tl.float32)
    for start in range(0, num_parts, BLOCK_S):
        part = start + tl.arange(0, BLOCK_S)
        own = tl.load(peaks + part * num_tokens + m, mask=part < num_parts, other=float("-inf"))
        peak = tl.maximum(peak, tl.max(own, axis=0))
    value = tl.zeros([D], dtype=tl.float32)
    for column in range(0, C, BLOCK_C):
        c = column + tl.arange(0, BLOCK_C)
        seen = tl.zeros([BLOCK_C], dtype=tl.float32)
        total = tl.zeros([1], dtype=tl.float32)
        for start in range(0, num_parts, BLOCK_S):
            part = start + tl.arange(0, BLOCK_S)
            valid = part < num_parts
            place = part * num_tokens + m
            own = tl.load(peaks + place, mask=valid, other=float("-inf"))
            share = tl.exp(own - peak)
            total += tl.sum(share * tl.load(totals + place, mask=valid, other=0.0), axis=0)
            tile = tl.load(sums + place[:, None] * C + c[None, :], mask=valid[:, None], other=0.0)
            seen += tl.sum(share[:, None] * tile, axis=0)
        w = tl.load(weight + (2 * D + d[:, None]) * C + c[None, :]).to(tl.float32)
        value += tl.sum(w * (seen / total)[None, :], axis=1)
    tl.store(sound + m * D + d, value + tl.load(bias + 2 * D + d).to(tl.float32))
