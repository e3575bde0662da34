"""Where the time of a clip goes: each stage as a graph of its own, what it could take, and its kernels."""

import time
from collections.abc import Callable, Mapping
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils.flop_counter import flop_registry

from auralsam2 import AuralSAM2
from auralsam2.network.precision import PRECISIONS
from auralsam2_client.contract import WINDOW_SAMPLES
from kernels.counting import Counted, count_operators
from loadtests.cases.case import Case
from loadtests.gpu.clip.staged import StagedNetwork
from loadtests.gpu.clip.ways import Bench
from loadtests.gpu.measuring.capture import Captured
from loadtests.gpu.measuring.card import measure_peaks
from loadtests.gpu.measuring.profile import kernels_of
from loadtests.gpu.measuring.timing import in_turns, summarise, timer_for
from loadtests.gpu.planning.jobs import KERNELS_ROW, STAGES_ROW
from loadtests.gpu.rows.network import Keep

NUM_KERNELS = 30
COUNTED_BYTES = torch.float32.itemsize


def count_stages(case: Case) -> dict[str, Counted]:
    """Count the operators of each stage, as the service runs it, in float32 on no device at all."""
    state = AuralSAM2.from_preset(case.preset, case.image_size).state_dict()
    network = StagedNetwork(case, state, "meta", "float32")
    frames = torch.zeros(case.num_frames, case.image_size, case.image_size, 3, dtype=torch.uint8, device="meta")
    audio = torch.zeros(case.num_frames, WINDOW_SAMPLES, 2, device="meta")
    with torch.inference_mode():
        calls = network.calls(frames, audio)
    with patch.dict(flop_registry, FUSED_FLOP):
        return {name: count_operators(function, *inputs) for name, (function, inputs) in calls.items()}


def _fusion_flop(visual: Tensor, audio: Tensor, *rest: Any, out_val: Any = None) -> int:
    """In low rank: both directions are products of the pixels with the few tokens of the sound."""
    return 2 * 2 * 2 * visual.numel() * audio.shape[0]


def _attention_flop(query: Tensor, key: Tensor, value: Tensor, *rest: Any, out_val: Any = None) -> int:
    return 2 * query.shape[0] * key.shape[0] * (query.shape[1] + value.shape[1])


def _depthwise_flop(hidden: Tensor, weight: Tensor, *rest: Any, out_val: Any = None) -> int:
    return 2 * hidden.numel() * weight.shape[-1] * weight.shape[-2]


FUSED_FLOP: dict[Any, Callable[..., int]] = {
    torch.ops.auralsam2.audio_visual_fusion: _fusion_flop,
    torch.ops.auralsam2.memory_attention: _attention_flop,
    torch.ops.auralsam2.depthwise_gelu: _depthwise_flop,
}
"""What the fused operators compute, 2 a multiply-add: PyTorch knows no formula for them."""


def measure_stages(
    bench: Bench,
    precision: str,
    seconds: float,
    keep: Keep,
    *,
    peaks: Mapping[str, float] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Measure each stage; `keep` gets the row of the stages and that of the kernels.

    Args:
        peaks: the card's own speeds; None: measured now.
    """
    end = clock() + seconds
    dtype, timer = PRECISIONS[precision], timer_for(bench.device)
    if peaks is None:
        peaks = measure_peaks(timer, bench.device, dtype)
    counts = count_stages(bench.case)
    network = StagedNetwork(bench.case, bench.state, bench.device, precision)
    with torch.inference_mode():
        calls = network.calls(*bench.clip)
    graphs = {name: Captured(function, inputs) for name, (function, inputs) in calls.items()}
    operations: dict[str, Callable[[], object]] = {name: graph.replay for name, graph in graphs.items()}
    kernels = {name: kernels_of(operation, bench.device) for name, operation in operations.items()}
    times, failures = in_turns(operations, timer, seconds=max(0.0, end - clock()), clock=clock)
    rows: dict[str, Any] = {}
    for name, own in times.items():
        figures, count = summarise(own), counts[name]
        spent_s = 1e-3 * figures["median_ms"]
        moved = count.bytes * dtype.itemsize / COUNTED_BYTES
        rows[name] = {
            **figures,
            "launches": sum(kernel.launches for kernel in kernels[name]) or None,
            "gflop": count.flop / 1e9,
            "gbytes": moved / 1e9,
            "gemm_share": count.flop / spent_s / peaks["gemm_flop_per_s"],
            "copy_share": moved / spent_s / peaks["copy_bytes_per_s"],
        }
    keep(STAGES_ROW, {"precision": precision, "stages": rows, "left_out": failures, **peaks})
    if any(kernels.values()):
        listed = [{"stage": stage, **kernel.record()} for stage, own in kernels.items() for kernel in own]
        longest = sorted(listed, key=lambda kernel: -kernel["us"])
        total = sum(kernel["us"] for kernel in longest)
        keep(KERNELS_ROW, {"precision": precision, "total_us": total, "kernels": longest[:NUM_KERNELS]})
    else:
        keep(KERNELS_ROW, {"reason": "the profiler saw no kernel: it needs a card, and CUPTI beside PyTorch"})
