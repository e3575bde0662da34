"""The fused operators as launches that Inductor sees: `torch.library.triton_op` around the same plans.

A custom operator is one closed node for `torch.compile`; here its scratch buffers and launches stand in the compiled
graph, so that Inductor allocates them with its own and needs no Python between them. `show_kernels` switches it on.

Traced on the host alone: the graphs hold the plans' launches, and of each kernel Inductor's analysis finds its outputs
to be written and nothing else (torch 2.13, Triton 3.9). No compiled graph of this form has run on a card; ahead of time
(AOTInductor, torch 2.11, Triton 3.6) it compiled and crashed when it was loaded. Fused multiply-add follows the
compiler's default, which is on in Triton 3.6 to 3.9: the option cannot be named here.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.library import triton_op, wrap_triton

from kernels import operators
from kernels.launching.launch import Plan


def _launches(plan: Plan, inputs: Sequence[Tensor]) -> list[Tensor]:
    held = dict(zip(plan.inputs, (tensor.contiguous() for tensor in inputs), strict=True))
    for name, buffer in plan.buffers.items():
        if name not in held:
            held[name] = torch.empty(buffer.shape, dtype=buffer.dtype, device=inputs[0].device)
    for launch in plan.launches:
        tensors = {parameter: held[name] for parameter, name in {**launch.inputs, **launch.outputs}.items()}
        numbers = {**launch.integers, **launch.constants}
        wrap_triton(launch.kernel)[launch.grid](
            **tensors, **numbers, num_warps=launch.num_warps, num_stages=launch.num_stages
        )
    return [held[name] for name in plan.outputs]


@triton_op("auralsam2::audio_visual_fusion_shown", mutates_args={})
def _fusion(visual: Tensor, audio: Tensor, weights: list[Tensor], form: str) -> tuple[Tensor, Tensor]:
    plan = operators.plan_fusion(visual.device, visual, audio, *weights, form)
    frame, sound = _launches(plan, [visual, audio, *weights])
    return frame, sound


@triton_op("auralsam2::memory_attention_shown", mutates_args={})
def _memory_attention(
    query: Tensor, key: Tensor, value: Tensor, cos: Tensor, sin: Tensor, num_unrotated: int
) -> Tensor:
    plan = operators.plan_memory_attention(query.device, query, key, value, cos, sin, num_unrotated)
    (out,) = _launches(plan, [query, key, value, cos, sin])
    return out


@triton_op("auralsam2::depthwise_gelu_shown", mutates_args={})
def _depthwise_gelu(hidden: Tensor, weight: Tensor, bias: Tensor, side: int) -> Tensor:
    plan = operators.plan_depthwise_gelu(hidden.device, hidden, weight, bias, side)
    (out,) = _launches(plan, [hidden, weight, bias])
    return out


def audio_visual_fusion(visual: Tensor, audio: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    """Fuse as `operators.audio_visual_fusion`, on a card."""
    frame, sound = _fusion(visual, audio, list(rest[:-1]), rest[-1])
    return frame, sound


def _where_a_card_is(on_card: Callable[..., Any], elsewhere: Callable[..., Any]) -> Callable[..., Any]:
    def choose(first: Tensor, *rest: Any) -> Any:
        return (on_card if first.is_cuda else elsewhere)(first, *rest)

    return choose


_CLOSED: dict[str, Callable[..., Any]] = {
    name: getattr(operators, name) for name in ("audio_visual_fusion", "memory_attention", "depthwise_gelu")
}
_SHOWN = {
    name: _where_a_card_is(on_card, _CLOSED[name])
    for name, on_card in (
        ("audio_visual_fusion", audio_visual_fusion),
        ("memory_attention", _memory_attention),
        ("depthwise_gelu", _depthwise_gelu),
    )
}


def show_kernels(on: bool) -> None:
    """Choose, for every network of this process, whether Inductor sees the launches of the fused operators on a card.

    To be set before a network is compiled, and left so: what was compiled before is compiled again.
    """
    for name, operator in (_SHOWN if on else _CLOSED).items():
        setattr(operators, name, operator)
