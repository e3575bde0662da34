"""Every plan that the presets run, at their sizes: what is compiled, tuned, counted and made into plugins."""

from collections.abc import Mapping

import torch

from kernels.depthwise_gelu import plan as _depthwise_gelu_plan
from kernels.fusion import plan as _fusion_plan
from kernels.launching.launch import ELEMENT_NAMES, Blocks, Plan
from kernels.memory_attention import plan as _memory_attention_plan
from kernels.tuning import blocks_of

DTYPES = tuple(ELEMENT_NAMES)


def plans(dtype: torch.dtype, blocks: Mapping[str, Blocks]) -> dict[str, Plan]:
    """Make the plans of one type, by name. 1024 px has a map of 64 x 64 tokens; `compact` runs at 256 px, 16 x 16."""
    sizes = _fusion_plan.FusionSizes.of
    wide, narrow = sizes(5, 64 * 64, 5, 256, 128), sizes(5, 16 * 16, 5, 128, 64)
    reading = _memory_attention_plan.MemoryAttentionSizes
    return {
        "fusion, released, 64 x 64": _fusion_plan.plan(wide, dtype, "released", blocks),
        "fusion, released, 14 x 14": _fusion_plan.plan(sizes(5, 14 * 14, 5, 256, 128), dtype, "released", blocks),
        "fusion, paper, 64 x 64": _fusion_plan.plan(wide, dtype, "paper", blocks),
        "fusion, released, compact": _fusion_plan.plan(narrow, dtype, "released", blocks),
        "memory attention, 64 x 64": _memory_attention_plan.plan(reading(4096, 28736, 64, 256, 64), dtype, blocks),
        "memory attention, compact": _memory_attention_plan.plan(reading(256, 1040, 16, 128, 32), dtype, blocks),
        "depth-wise GELU, 64 x 64": _depthwise_gelu_plan.plan(
            _depthwise_gelu_plan.DepthwiseGeluSizes(5, 64, 1024), dtype, blocks
        ),
        "depth-wise GELU, compact": _depthwise_gelu_plan.plan(
            _depthwise_gelu_plan.DepthwiseGeluSizes(5, 16, 512), dtype, blocks
        ),
    }


def default_blocks(dtype: torch.dtype, capability: int) -> dict[str, Blocks]:
    """Choose block sizes of every kernel before any tuning."""
    return {
        **_fusion_plan.default_blocks(dtype),
        **_memory_attention_plan.default_blocks(dtype, capability),
        **_depthwise_gelu_plan.default_blocks(dtype, capability),
    }


def shipped_plans(capability: int) -> list[tuple[str, torch.dtype, Plan]]:
    """List name, type and plan with the block sizes of the shipped table of `capability` (80, 86, 89, 90, 100, 120)."""
    return [
        (name, dtype, plan)
        for dtype in DTYPES
        for name, plan in plans(dtype, blocks_of(dtype, f"sm_{capability}", capability)).items()
    ]
