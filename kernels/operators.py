"""The fused operators as PyTorch knows them: `torch.ops.auralsam2.*`, one node each under torch.export.

On a CPU each runs the PyTorch form of its package (the fusion in low rank), on CUDA its Triton kernels, on any other
device PyTorch refuses. None has a gradient: training uses the plain modules. Importing this module registers them.
"""

from typing import Any

import torch
from torch import Tensor

from kernels.depthwise_gelu.pytorch import depthwise_gelu as depthwise_gelu_in_pytorch
from kernels.fusion.pytorch import fuse
from kernels.fusion.reference import FUSION_FORMS, FusionForm
from kernels.fusion.weights import FusionWeights
from kernels.launching.errors import KernelError
from kernels.launching.launch import Plan
from kernels.launching.prepared import call
from kernels.memory_attention.pytorch import memory_attention as memory_attention_in_pytorch


def _form(name: str) -> FusionForm:
    for form in FUSION_FORMS:
        if form == name:
            return form
    raise KernelError(f"fusion form {name!r} is unknown; choose one of {', '.join(FUSION_FORMS)}.")


@torch.library.custom_op("auralsam2::audio_visual_fusion", mutates_args=(), device_types="cpu")
def audio_visual_fusion(
    visual: Tensor,
    audio: Tensor,
    visual_in: Tensor,
    visual_in_bias: Tensor,
    sound_in: Tensor,
    sound_in_bias: Tensor,
    frame_out: Tensor,
    frame_out_bias: Tensor,
    frame_norm: Tensor,
    frame_norm_bias: Tensor,
    sound_out: Tensor,
    sound_out_bias: Tensor,
    sound_norm: Tensor,
    sound_norm_bias: Tensor,
    form: str,
) -> tuple[Tensor, Tensor]:
    """Fuse sound and frames of one stage in both directions, layer norms included.

    Args:
        visual: [T, h w, C] tokens of the frames; audio: [M, C] tokens of sound and text.
        visual_in ... sound_norm_bias: the fields of `kernels.fusion.weights.FusionWeights`, of the same dtype.
        form: "released" | "paper".
    Returns: both sides in their shapes and dtype.
    Raises: KernelError for a form, and on CUDA a size or dtype, that no kernel was written for.
    """
    weights = FusionWeights(
        visual_in,
        visual_in_bias,
        sound_in,
        sound_in_bias,
        frame_out,
        frame_out_bias,
        frame_norm,
        frame_norm_bias,
        sound_out,
        sound_out_bias,
        sound_norm,
        sound_norm_bias,
    )
    return fuse(visual, audio, weights, _form(form))


@audio_visual_fusion.register_fake
def _(visual: Tensor, audio: Tensor, *rest: Tensor | str) -> tuple[Tensor, Tensor]:
    return visual.new_empty(visual.shape), audio.new_empty(audio.shape)


@audio_visual_fusion.register_kernel("cuda")
def _audio_visual_fusion_in_triton(visual: Tensor, audio: Tensor, *rest: Tensor | str) -> tuple[Tensor, Tensor]:
    weights = [weight for weight in rest if isinstance(weight, Tensor)]
    frame, sound = call(plan_fusion, [visual, audio, *weights], str(rest[-1]))
    return frame, sound


def plan_fusion(device: torch.device, visual: Tensor, audio: Tensor, *rest: Any) -> Plan:
    from kernels.fusion.plan import FusionSizes, plan
    from kernels.tuning import blocks_for

    weights = FusionWeights(*rest[:-1])
    num_frames, num_pixels, _ = visual.shape
    sizes = FusionSizes.of(num_frames, num_pixels, audio.shape[0], weights.width, weights.inner)
    return plan(sizes, visual.dtype, _form(rest[-1]), blocks_for(visual.dtype, device))


@torch.library.custom_op("auralsam2::memory_attention", mutates_args=(), device_types="cpu")
def memory_attention(query: Tensor, key: Tensor, value: Tensor, cos: Tensor, sin: Tensor, num_unrotated: int) -> Tensor:
    """Attend with one head to remembered frames, rotary positions applied first: softmax(q k^T / sqrt(C)) value.

    Args:
        query: [Nq, C]; key: [Nk, C]; value: [Nk, Dv], projected after the attention, not before.
        cos, sin: [Nq, C / 2] float32 rotary tables; key n is turned by row n % Nq.
        num_unrotated: how many keys at the end (object pointers) are not turned.
    Returns: [Nq, Dv] in the dtype of `query`.
    Raises: KernelError for sizes or a dtype that no kernel was written for.
    """
    return memory_attention_in_pytorch(query, key, value, cos, sin, num_unrotated)


@memory_attention.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, cos: Tensor, sin: Tensor, num_unrotated: int) -> Tensor:
    return query.new_empty((query.shape[0], value.shape[1]))


@memory_attention.register_kernel("cuda")
def _memory_attention_in_triton(
    query: Tensor, key: Tensor, value: Tensor, cos: Tensor, sin: Tensor, num_unrotated: int
) -> Tensor:
    (out,) = call(plan_memory_attention, [query, key, value, cos, sin], num_unrotated)
    return out


def plan_memory_attention(
    device: torch.device, query: Tensor, key: Tensor, value: Tensor, cos: Tensor, sin: Tensor, num_unrotated: int
) -> Plan:
    from kernels.memory_attention.plan import plan, sizes_of
    from kernels.tuning import blocks_for

    sizes = sizes_of(query, key, value, cos, sin, num_unrotated)
    return plan(sizes, query.dtype, blocks_for(query.dtype, device))


@torch.library.custom_op("auralsam2::depthwise_gelu", mutates_args=(), device_types="cpu")
def depthwise_gelu(hidden: Tensor, weight: Tensor, bias: Tensor, side: int) -> Tensor:
    """Convolve tokens depth-wise by 3 x 3, add the bias and apply GELU, without a transpose.

    Args:
        hidden: [T, side * side, F]; weight: [F, 1, 3, 3]; bias: [F].
    Returns: [T, side * side, F] in the dtype of `hidden`.
    Raises: KernelError for sizes or a dtype that no kernel was written for.
    """
    return depthwise_gelu_in_pytorch(hidden, weight, bias, side)


@depthwise_gelu.register_fake
def _(hidden: Tensor, weight: Tensor, bias: Tensor, side: int) -> Tensor:
    return hidden.new_empty(hidden.shape)


@depthwise_gelu.register_kernel("cuda")
def _depthwise_gelu_in_triton(hidden: Tensor, weight: Tensor, bias: Tensor, side: int) -> Tensor:
    (out,) = call(plan_depthwise_gelu, [hidden, weight, bias], side)
    return out


def plan_depthwise_gelu(device: torch.device, hidden: Tensor, weight: Tensor, bias: Tensor, side: int) -> Plan:
    from kernels.depthwise_gelu.plan import DepthwiseGeluSizes, plan
    from kernels.tuning import blocks_for

    sizes = DepthwiseGeluSizes(hidden.shape[0], side, hidden.shape[2])
    return plan(sizes, hidden.dtype, blocks_for(hidden.dtype, device))
