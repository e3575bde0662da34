"""The fused operators as chains of TensorRT plugins: which sizes an engine fixes, and which stay open.

Map sizes and widths are fixed when kernels are chosen; frames T, tokens M and remembered keys K belong to the request.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import torch

from kernels.catalogue import default_blocks
from kernels.depthwise_gelu import plan as depthwise_gelu_plan
from kernels.fusion import plan as fusion_plan
from kernels.fusion.reference import FusionForm
from kernels.launching.errors import KernelError
from kernels.launching.launch import Blocks, Plan, Size
from kernels.launching.occupancy import ARCHITECTURES
from kernels.memory_attention import plan as memory_attention_plan
from kernels.plugins.chains import PLAIN_SHARED_BYTES, Chain, Compiler, Fused, build_chain, compile_plainly
from kernels.tuning import blocks_of

Shapes = Mapping[str, tuple[Size, ...]]
Cuts = Mapping[str, Blocks]
"""Block sizes of every kernel, by name."""


def audio_visual_fusion(form: FusionForm, num_pixels: int, width: int, inner: int, blocks: Cuts) -> Fused:
    """Make the fusion of maps of `num_pixels`, inputs as `kernels.operators.audio_visual_fusion`."""
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


def memory_attention(num_queries: int, num_unrotated: int, width: int, value_width: int, blocks: Cuts) -> Fused:
    """Make the memory attention of maps of `num_queries` pixels, inputs as `kernels.operators.memory_attention`.

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


def depthwise_gelu(side: int, features: int, blocks: Cuts) -> Fused:
    """Make the depth-wise convolution and GELU of maps side x side, inputs as `kernels.operators.depthwise_gelu`."""

    def plan(shapes: Shapes, dtype: torch.dtype) -> Plan:
        sizes = depthwise_gelu_plan.DepthwiseGeluSizes(shapes["hidden"][0], side, features)
        return depthwise_gelu_plan.plan(sizes, dtype, blocks)

    inputs: dict[str, tuple[int | str, ...]] = {
        "hidden": ("T", side * side, features),
        "weight": (features, 1, 3, 3),
        "bias": (features,),
    }
    return Fused(f"depthwise_gelu_{side}_{features}", inputs, plan)


def fitting_chain(
    fused: Callable[[Cuts], Fused],
    dtype: torch.dtype,
    capability: int,
    blocks: Cuts,
    *,
    shared_bytes: int = PLAIN_SHARED_BYTES,
    compiler: Compiler = compile_plainly,
) -> Chain:
    """Compile a chain whose kernels need no more than `shared_bytes` of shared memory each.

    A kernel that needs more with `blocks` is cut otherwise: with fewer loads in flight, else as the tables of other
    cards cut it, the first that fits.

    Args:
        fused: one of the functions above, for block sizes.
    Raises: KernelError as `build_chain`, and for kernels that fit in no known way; it names them and what they need.
    """
    chosen = dict(blocks)
    chain = build_chain(fused(chosen), dtype, capability, compiler=compiler)
    misfits = []
    for kernel in chain.larger_than(shared_bytes):
        for cut in _other_cuts(kernel.function, chosen[kernel.function], dtype):
            tried = build_chain(fused({**chosen, kernel.function: cut}), dtype, capability, compiler=compiler)
            if kernel.function not in {large.function for large in tried.larger_than(shared_bytes)}:
                chosen[kernel.function], chain = cut, tried
                break
        else:
            misfits.append(f"{kernel.function} needs {kernel.shared_bytes}")
    if misfits:
        raise KernelError(f"{', '.join(misfits)} bytes of shared memory; no known block sizes need {shared_bytes}.")
    return chain


def _other_cuts(function: str, own: Blocks, dtype: torch.dtype) -> Iterator[Blocks]:
    tables = [blocks_of(dtype, f"sm_{capability}", capability) for capability in ARCHITECTURES]
    tables += [default_blocks(dtype, capability) for capability in ARCHITECTURES]
    tried = [own]
    for cut in (own, *(table[function] for table in tables)):
        for num_stages in range(cut.num_stages, 0, -1):
            fewer = replace(cut, num_stages=num_stages)
            if fewer not in tried:
                tried.append(fewer)
                yield fewer
