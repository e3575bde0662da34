"""The fusion in its low-rank form, in PyTorch: the same numbers as the reference with a tenth of the arithmetic.

Nothing stands between the projections but sums, so their order is free. With M audio tokens, blocks of d pixels and
N = T h w:

    released  For each block b of d consecutive pixels X_b [d, C]: S_b = (K_a X_b) W_q^T and R_b = (Q_a X_b) W_k^T,
              both [M, d], are all that queries and keys of the frames are needed for, and the audio result is the sum
              over b of (R_b W_v) X_b^T / N. The projections [3, T, d, h, w] never exist. The frame result is a sum of
              T M outer products: its row (t, c) is column j = t d + c of (frame, feature), which takes frame j % T of S
              and feature j // T of V_a, so the way back to C channels is one product of rank T M.
    paper     softmax(Q_v K_a^T) = softmax(X (K_a W_q)^T), and V_a W_z^T has M rows; softmax(Q_a K_v^T) V_v =
              (softmax((Q_a W_k) X^T) X) W_v^T, because the rows of a softmax sum to one.

Where a row straddles channels (h w is no multiple of d, as at 14 x 14) the released form has no blocks: there the plain
projections are made, of a map that is small.

The released form divides by N in two equal steps: queries, keys and values of the sound by sqrt(N) before they meet the
frames, and the audio result once more between its two products. Divided at the end, sums over all pixels pass the end
of float16 (1.03e6 at 14 x 14, trained weights); in two steps the largest number is the result's own (6.8e3 there).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.fusion.reference import FusionForm
from kernels.fusion.weights import NORM_EPS, FusionWeights


def fuse(visual: Tensor, audio: Tensor, weights: FusionWeights, form: FusionForm) -> tuple[Tensor, Tensor]:
    """Fuse both sides of one stage, [T, h w, C] and [M, C], any float dtype, as `fuse_plainly` in fewer steps."""
    width, inner = weights.width, weights.inner
    sound_in = F.linear(audio, weights.sound_in, weights.sound_in_bias)
    tokens, projected = sound_in.split([width, 3 * inner], dim=1)
    root = 1.0 if form == "paper" else math.sqrt(visual.shape[0] * visual.shape[1])
    q_a, k_a, v_a = (projected / root).split(inner, dim=1)
    if form == "paper":
        frame, sound = _paper(visual, q_a, k_a, v_a, weights)
    elif visual.shape[1] % inner:
        frame, sound = _straddling(visual, q_a, k_a, v_a, weights, root)
    else:
        frame, sound = _released(visual, q_a, k_a, v_a, weights, root)
    sound = torch.addmm(tokens + weights.sound_out_bias, sound, weights.sound_out.T)
    return (
        F.layer_norm(frame, (width,), weights.frame_norm, weights.frame_norm_bias, NORM_EPS),
        F.layer_norm(sound, (width,), weights.sound_norm, weights.sound_norm_bias, NORM_EPS),
    )


def _biased(visual: Tensor, left: Tensor, right: Tensor, bias: Tensor) -> Tensor:
    """visual + left @ right + bias, [T, h w, C], in one pass over the frames: the bias is one more row of `right`.

    left [1 or T, h w, K]; right [1 or T, K, C]. A map is too large to be read and written once for each addition.
    """
    num_frames, num_pixels, width = visual.shape
    left = torch.cat([left, left.new_ones(left.shape[0], num_pixels, 1)], dim=2)
    right = torch.cat([right, bias.expand(right.shape[0], 1, width)], dim=1)
    return torch.baddbmm(visual, left.expand(num_frames, -1, -1), right.expand(num_frames, -1, -1))


def _released(
    visual: Tensor, q_a: Tensor, k_a: Tensor, v_a: Tensor, weights: FusionWeights, root: float
) -> tuple[Tensor, Tensor]:
    """Blocks of pixels. `q_a`, `k_a` and `v_a` are divided by `root`, sqrt(N), already."""
    num_frames, num_pixels, width = visual.shape
    num_tokens, inner = q_a.shape
    num_blocks = num_pixels // inner
    w_q, w_k, w_v = weights.visual_in.split(inner)
    b_q, b_k, b_v = weights.visual_in_bias.split(inner)
    blocks = visual.reshape(-1, inner, width)
    heard = torch.cat([k_a, q_a]) @ blocks  # [T B, 2 M, C]
    for_frames, for_sound = heard.split(num_tokens, dim=1)
    scores = F.linear(for_frames, w_q) + k_a.sum(1)[:, None] * b_q  # [T B, M, d]
    weighed = (F.linear(for_sound, w_k) + q_a.sum(1)[:, None] * b_k) / root
    sound = ((weighed @ w_v) @ blocks.transpose(1, 2)).sum(0) + (weighed.sum(0) @ b_v)[:, None]  # [M, d]
    # Pixel p = c B + b of frame t is where row (t, c, b) of the projections lies.
    spread = scores.view(num_frames, num_blocks, num_tokens, inner).permute(3, 1, 0, 2)
    spread = spread.reshape(num_pixels, num_frames, num_tokens)
    if num_frames * num_tokens <= inner:
        mixing = _mixing(v_a, num_frames, weights)
        frame = _biased(visual, spread.reshape(1, num_pixels, -1), mixing, weights.frame_out_bias)
    else:
        mixed = (spread @ v_a).permute(2, 1, 0).reshape(num_frames, inner, num_pixels)
        frame = _biased(visual, mixed.transpose(1, 2), weights.frame_out.T[None], weights.frame_out_bias)
    return frame, sound.T.reshape(num_tokens, inner)


def _mixing(values: Tensor, num_frames: int, weights: FusionWeights) -> Tensor:
    """From scores to channels, [T, T M, C]: a product of rank T M, cheaper than by features where T M is at most d."""
    num_tokens, inner = values.shape
    own = torch.eye(num_frames, dtype=values.dtype, device=values.device)
    chosen = values.T[:, None, None, :] * own[:, :, None]  # [feature, frame j % T, frame, M]
    chosen = chosen.reshape(num_frames, inner, num_frames * num_tokens)  # [t, c, (frame, M)]
    return chosen.transpose(1, 2) @ weights.frame_out.T


def _straddling(
    visual: Tensor, q_a: Tensor, k_a: Tensor, v_a: Tensor, weights: FusionWeights, root: float
) -> tuple[Tensor, Tensor]:
    """As `two_way_released`, row by row. `q_a`, `k_a` and `v_a` are divided by `root`, sqrt(N), already."""
    num_frames, num_pixels, _ = visual.shape
    num_tokens, inner = q_a.shape
    projected = F.linear(visual, weights.visual_in, weights.visual_in_bias).transpose(1, 2)
    q_v, k_v, v_v = (p.reshape(-1, inner) for p in projected.split(inner, dim=1))
    mixed = ((q_v @ k_a.T) @ v_a).T.reshape(num_frames, inner, num_pixels).transpose(1, 2)
    sound = ((q_a @ k_v.T) / root) @ v_v
    frame = _biased(visual, mixed, weights.frame_out.T[None], weights.frame_out_bias)
    return frame, sound.T.reshape(num_tokens, inner)


def _paper(visual: Tensor, q_a: Tensor, k_a: Tensor, v_a: Tensor, weights: FusionWeights) -> tuple[Tensor, Tensor]:
    inner = q_a.shape[1]
    w_q, w_k, w_v = weights.visual_in.split(inner)
    b_q, _, b_v = weights.visual_in_bias.split(inner)
    scale = 1 / math.sqrt(inner)
    heard = torch.softmax(F.linear(visual, (k_a @ w_q) * scale, (k_a @ b_q) * scale), dim=-1)
    frame = _biased(visual, heard, F.linear(v_a, weights.frame_out)[None], weights.frame_out_bias)
    pixels = visual.flatten(0, 1)
    # A bias of the keys adds the same to every pixel, which a softmax over the pixels does not see.
    seen = torch.softmax(((q_a @ w_k) * scale) @ pixels.T, dim=-1) @ pixels
    return frame, F.linear(seen, w_v, b_v)
