"""The rows of the fused operators: eager, Inductor, FlexAttention, ours, each in a graph, beside what the card can do.

A graph holds CALLS calls, so that its own launch does not count. What fits stays in the second-level cache, for all.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import flex_attention

from auralsam2.network.precision import PRECISIONS
from kernels.bench import gpu_operations
from kernels.catalogue import plans
from kernels.roofline import works
from kernels.tuning import blocks_for
from loadtests.gpu.measuring.capture import Captured
from loadtests.gpu.measuring.card import measure_peaks
from loadtests.gpu.measuring.profile import Kernel, kernels_of
from loadtests.gpu.measuring.timing import explain, in_turns, summarise, timer_for
from loadtests.gpu.planning.jobs import OPERATORS, OUT_OF_TIME, peaks_row
from loadtests.gpu.rows.network import Keep

CALLS = 20
EAGER, INDUCTOR, FLEX, OURS = "eager", "Inductor", "FlexAttention", "ours"
ATTENTION = "memory attention"
AGREEMENT = {torch.float32: 1e-3, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""How far a form may be from eager in the same type, as a share of the largest element; beyond, its time means nothing.
How right they are, `make test-gpu` says, against float64."""
Operator = tuple[Callable[..., Any], Callable[..., Any], tuple[Any, ...], int]
"""Eager form, ours, arguments, and the bytes that it cannot avoid to move."""


class WrongAnswerError(ArithmeticError):
    """A form answers otherwise than eager PyTorch."""


def read_by_flex_attention(
    query: Tensor, key: Tensor, value: Tensor, cos: Tensor, sin: Tensor, num_unrotated: int
) -> Tensor:
    """Read the memory as `kernels.memory_attention.pytorch` does, by FlexAttention: values are 64 wide, keys 256."""
    num_queries, width = query.shape
    num_rotated = key.shape[0] - num_unrotated
    spatial = key[:num_rotated].unflatten(0, (-1, num_queries))
    turned = torch.cat([_turn(spatial, cos, sin).flatten(0, 1), key[num_rotated:]])
    mixed = flex_attention(
        _turn(query, cos, sin)[None, None], turned[None, None], value[None, None], scale=1 / math.sqrt(width)
    )
    assert isinstance(mixed, Tensor)
    return mixed[0, 0]


def _turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(-2).to(x.dtype)


def forms(name: str, operator: Operator) -> dict[str, Callable[..., Any]]:
    """List the forms of an operator, eager first."""
    eager, ours, _, _ = operator
    found = {EAGER: eager, INDUCTOR: torch.compile(eager, dynamic=False)}
    if name == ATTENTION:
        found[FLEX] = torch.compile(read_by_flex_attention, dynamic=False)
    return {**found, OURS: ours}


def measure_operators(
    precision: str,
    rows: Sequence[str],
    device: str,
    seconds: float,
    keep: Keep,
    *,
    operators: Mapping[str, Operator] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Measure operators in one type; `keep` gets a row for each of `rows`, and one of the card's own speeds.

    Args:
        operators: stand in for the fused operators at their production sizes.
    """
    end = clock() + seconds
    dtype, timer = PRECISIONS[precision], timer_for(device)
    peaks = measure_peaks(timer, device, dtype)
    keep(peaks_row(precision), {"precision": precision, **peaks})
    flop = {work.operator: work.flop for work in works(dtype)}
    given = gpu_operations(dtype) if operators is None else operators
    wanted = [name for name in OPERATORS if f"{name}, {precision}" in rows]
    for number, name in enumerate(wanted):
        row, left = f"{name}, {precision}", end - clock()
        if left <= 0:
            keep(row, {"reason": OUT_OF_TIME})
            continue
        try:
            found = _measure(name, given[name], device, left / (len(wanted) - number), clock)
        except Exception as error:  # noqa: BLE001  (it becomes the row's reason)
            keep(row, {"reason": explain(error)})
            continue
        keep(row, {**found, **_shares(name, found, given[name][3], flop[name], peaks, dtype, device)})


def _measure(name: str, operator: Operator, device: str, seconds: float, clock: Callable[[], float]) -> dict[str, Any]:
    arguments, left_out = operator[2], dict[str, str]()
    graphs: dict[str, Captured[Any]] = {}
    with torch.inference_mode():
        truth = _tensors(operator[0](*arguments))
        for form, function in forms(name, operator).items():
            try:
                _compare(form, _tensors(function(*arguments)), truth)
                graphs[form] = Captured(_many(partial(function, *arguments)), (arguments[0],))
            except Exception as error:  # noqa: BLE001  (the other forms are measured all the same)
                left_out[form] = explain(error)
    times, failures = in_turns(
        {form: graph.replay for form, graph in graphs.items()},
        timer_for(device),
        seconds=seconds / 2,
        clock=clock,
    )
    kernels = kernels_of(graphs[OURS].replay, device) if OURS in times else []
    return {
        "us": {form: _by_call(summarise(own)) for form, own in times.items()},
        "left_out": left_out | failures,
        "kernels": [Kernel(k.name, k.launches // CALLS, k.us / CALLS).record() for k in kernels],
    }


def _many(function: Callable[[], object]) -> Callable[..., None]:
    def call(_: Tensor) -> None:
        for _number in range(CALLS):
            function()

    return call


def _by_call(figures: dict[str, float]) -> dict[str, float]:
    return {name.removesuffix("_ms"): 1e3 * figures[name] / CALLS for name in ("median_ms", "p20_ms", "p80_ms")}


def _tensors(answer: Any) -> tuple[Tensor, ...]:
    return (answer,) if isinstance(answer, Tensor) else tuple(answer)


def _compare(form: str, found: tuple[Tensor, ...], truth: tuple[Tensor, ...]) -> None:
    for ours, theirs in zip(found, truth, strict=True):
        apart = float((ours.double() - theirs.double()).abs().max() / theirs.double().abs().max())
        allowed = AGREEMENT[theirs.dtype]
        if not apart <= allowed:
            raise WrongAnswerError(f"{form} is {apart:.1e} of the largest element from eager; at most {allowed:.0e}.")


def _shares(
    name: str,
    found: dict[str, Any],
    num_bytes: int,
    flop: float,
    peaks: Mapping[str, float],
    dtype: torch.dtype,
    device: str,
) -> dict[str, Any]:
    """What the card's own speeds would take, what share of them ours reaches, and the same of its kernels."""
    copy, gemm = peaks["copy_bytes_per_s"], peaks["gemm_flop_per_s"]
    record: dict[str, Any] = {"copy_floor_us": 1e6 * num_bytes / copy, "gemm_floor_us": 1e6 * flop / gemm}
    if OURS in found["us"]:
        seconds = 1e-6 * found["us"][OURS]["median"]
        record |= {"copy_share": num_bytes / seconds / copy, "gemm_share": flop / seconds / gemm}
    if found["kernels"]:
        # The plan counts each buffer of a launch once, which is the least that it moves.
        made = plans(dtype, blocks_for(dtype, torch.device(device)))
        moved = next(plan for title, plan in made.items() if title.startswith(name) and "64 x 64" in title).traffic()
        for kernel in found["kernels"]:
            own = next((size for title, size in moved.items() if kernel["kernel"].startswith(title)), None)
            kernel["copy_share"] = None if own is None else own / (1e-6 * kernel["us"]) / copy
    return record
