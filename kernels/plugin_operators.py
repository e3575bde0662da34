"""The fused operators as chains of TensorRT plugins: which sizes an engine fixes, and which stay open.

Map sizes and widths are fixed when kernels are chosen; frames T, tokens M and remembered keys K belong to the request.
"""

from collections.abc import Mapping

import torch

from kernels.depthwise_gelu import plan as depthwise_gelu_plan
from kernels.fusion import plan as fusion_plan
from kernels.fusion.reference import FusionForm
from kernels.launch import Blocks, Plan, Size
from kernels.memory_attention import plan as memory_attention_plan
from kernels.tensorrt_plugins import Fused

Shapes = Mapping[str, tuple[Size, ...]]


def audio_visual_fusion(
    form: FusionForm, num_pixels: int, width: int, inner: int, blocks: Mapping[str, Blocks]
) -> Fused:
    """The fusion of maps of `num_pixels`, inputs as `kernels.operators.audio_visual_fusion`."""
    straddles = fusion_plan.FusionSizes.of(1, num_pixels, 1, width, inner).straddles

    def plan(shapes: Shapes, dtype: torch.dtype) -> Plan:
        num_frames, num_tokens = shapes["visual"][0], shapes["audio"][0]
        sizes = fusion_plan.FusionSizes(num_frames, num_pixels, num_tokens, width, inner, straddles)
        return fusion_plan.plan(sizes, dtype, form, blocks)

    wide = width + 3 * inner
    inputs: dict[str, tuple[int | str, ...]] = {
        "visual": ("T", num_pixels, width),
        "audio": ("M", width),
        "visual_in": (3 * inner, width),
        "visual_in_bias": (3 * inner,),
        "sound_in": (wide, width),
        "sound_in_bias": (wide,),
    }
    for side in ("frame", "sound"):
        inputs |= {
            f"{side}_out": (width, inner),
            f"{side}_out_bias": (width,),
            f"{side}_norm": (width,),
            f"{side}_norm_bias": (width,),
        }
    return Fused(f"audio_visual_fusion_{form}_{num_pixels}_{width}", inputs, plan)


def memory_attention(
    num_queries: int, num_unrotated: int, width: int, value_width: int, blocks: Mapping[str, Blocks]
) -> Fused:
    """Memory attention of maps of `num_queries` pixels, inputs as `kernels.operators.memory_attention`.

    The number of pointer tokens is on no axis, so it is fixed too: one chain for each frame of a clip that differs.
    """

    def plan(shapes: Shapes, dtype: torch.dtype) -> Plan:
        sizes = memory_attention_plan.MemoryAttentionSizes(
            num_queries, shapes["key"][0], num_unrotated, width, value_width
        )
        return memory_attention_plan.plan(sizes, dtype, blocks)

    inputs: dict[str, tuple[int | str, ...]] = {
        "query": (num_queries, width),
        "key": ("K", width),
        "value": ("K", value_width),
        "cos": (num_queries, width // 2),
        "sin": (num_queries, width // 2),
    }
    return Fused(f"memory_attention_{num_queries}_{num_unrotated}_{width}", inputs, plan)


def depthwise_gelu(side: int, features: int, blocks: Mapping[str, Blocks]) -> Fused:
    """Depth-wise convolution and GELU of maps side x side, inputs as `kernels.operators.depthwise_gelu`."""

    def plan(shapes: Shapes, dtype: torch.dtype) -> Plan:
        sizes = depthwise_gelu_plan.DepthwiseGeluSizes(shapes["hidden"][0], side, features)
        return depthwise_gelu_plan.plan(sizes, dtype, blocks)

    inputs: dict[str, tuple[int | str, ...]] = {
        "hidden": ("T", side * side, features),
        "weight": (features, 1, 3, 3),
        "bias": (features,),
    }
    return Fused(f"depthwise_gelu_{side}_{features}", inputs, plan)
