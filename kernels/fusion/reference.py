"""Two-way audio-visual fusion of one fuser stage, written plainly: frames listen to sound, sound looks at frames.

Maths   released  frame = (Q_v K_a^T) V_a / N        audio = (Q_a K_v^T) V_v / N        N = T h w, no softmax
        paper     frame = softmax(Q_v K_a^T / sqrt(d)) V_a, audio likewise                (AuralSAM2, Eq. 1)
Source  AuralSAM2's fusion module. In the released form rows of Q_v, K_v, V_v are not pixels: the projection
        [T, d, h, w] is reinterpreted, not transposed, as [N, d]; at 14 x 14 a row straddles channels. The results are
        likewise transposed and reinterpreted, so values move across frames. Trained weights depend on it.
Dtypes  any float; tests use float64 as the truth that every faster form is compared with.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.fusion.weights import NORM_EPS, FusionWeights

Projections = tuple[Tensor, Tensor, Tensor]
FusionForm = Literal["released", "paper"]
FUSION_FORMS: tuple[FusionForm, ...] = ("released", "paper")


def two_way_released(visual: Projections, audio: Projections) -> tuple[Tensor, Tensor]:
    """Compute both directions in the released form.

    Args:
        visual: q, k, v of the frames, each [T, d, h, w].
        audio: q, k, v of the M audio (and text) tokens, each [M, d].
    Returns: frame result [T, d, h, w], audio result [M, d].
    """
    shape, width = visual[0].shape, visual[0].shape[1]
    q_v, k_v, v_v = (p.reshape(-1, width) for p in visual)
    q_a, k_a, v_a = audio
    num_rows = q_v.shape[0]
    frame = (q_v @ k_a.T) @ v_a / num_rows  # [N, d]
    sound = (q_a @ k_v.T) @ v_v / num_rows  # [M, d]
    return frame.T.reshape(shape), sound.T.reshape(sound.shape)


def two_way_paper(visual: Projections, audio: Projections) -> tuple[Tensor, Tensor]:
    """Compute both directions in the paper's form: one row a pixel, softmax, scaled by sqrt(d). Same shapes."""
    num_frames, width, height, columns = visual[0].shape
    q_v, k_v, v_v = (p.permute(0, 2, 3, 1).reshape(-1, width) for p in visual)
    q_a, k_a, v_a = audio
    scale = 1 / math.sqrt(width)
    frame = torch.softmax(q_v @ k_a.T * scale, dim=-1) @ v_a
    sound = torch.softmax(q_a @ k_v.T * scale, dim=-1) @ v_v
    return frame.reshape(num_frames, height, columns, width).permute(0, 3, 1, 2), sound


def fuse_plainly(visual: Tensor, audio: Tensor, weights: FusionWeights, form: FusionForm) -> tuple[Tensor, Tensor]:
    """Compute the whole fusion, one step after another, with every intermediate in memory.

    Args:
        visual: [T, h w, C] tokens of the frames.
        audio: [M, C] tokens of sound and text.
    Returns: both, having attended to each other, in the same shapes.
    """
    inner, width = weights.inner, weights.width
    image = visual.transpose(1, 2).unsqueeze(-1)  # [T, C, h w, 1]
    q_v, k_v, v_v = F.conv2d(image, weights.visual_in[:, :, None, None], weights.visual_in_bias).split(inner, dim=1)
    tokens, q_a, k_a, v_a = F.linear(audio, weights.sound_in, weights.sound_in_bias).split(
        [width, inner, inner, inner], dim=1
    )
    attend = two_way_released if form == "released" else two_way_paper
    frame, sound = attend((q_v, k_v, v_v), (q_a, k_a, v_a))
    frame = F.conv2d(frame, weights.frame_out[:, :, None, None], weights.frame_out_bias) + image
    sound = F.linear(sound, weights.sound_out, weights.sound_out_bias) + tokens
    return (
        F.layer_norm(frame[..., 0].transpose(1, 2), (width,), weights.frame_norm, weights.frame_norm_bias, NORM_EPS),
        F.layer_norm(sound, (width,), weights.sound_norm, weights.sound_norm_bias, NORM_EPS),
    )
