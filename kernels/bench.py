"""`make bench-kernels`: the fused operators beside what they replace, side by side in one run.

On CUDA: eager, `torch.compile` and the Triton kernels by CUDA events, with the time that the moved bytes take at the
card's own copy speed, measured in the same run. On a CPU: the fusion in low rank against the released form, in turns,
with counted arithmetic and bytes.
"""

import argparse
import json
import math
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kernels import operators
from kernels.counting import count_operators
from kernels.depthwise_gelu.pytorch import depthwise_gelu
from kernels.fusion.pytorch import fuse
from kernels.fusion.reference import FusionForm, fuse_plainly
from kernels.fusion.weights import FusionWeights
from kernels.memory_attention.pytorch import memory_attention

ROUNDS = 9
NUM_FRAMES, SIDE, WIDTH, INNER = 5, 64, 256, 128
NUM_KEYS, NUM_POINTER_TOKENS, MEMORY_WIDTH = 28736, 64, 64


def fusion_inputs(dtype: torch.dtype, device: str) -> tuple[Tensor, Tensor, FusionWeights]:
    draw = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw).mul(1 / math.sqrt(shape[-1])).to(device, dtype)

    wide = WIDTH + 3 * INNER
    shapes = (
        (3 * INNER, WIDTH),
        (3 * INNER,),
        (wide, WIDTH),
        (wide,),
        *(((WIDTH, INNER), (WIDTH,), (WIDTH,), (WIDTH,)) * 2),
    )
    return normal(NUM_FRAMES, SIDE**2, WIDTH), normal(NUM_FRAMES, WIDTH), FusionWeights(*(normal(*s) for s in shapes))


def summary(seconds: Sequence[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    return {
        "median_ms": 1e3 * statistics.median(ordered),
        "p20_ms": 1e3 * ordered[len(ordered) // 5],
        "p80_ms": 1e3 * ordered[-1 - len(ordered) // 5],
    }


def in_turns(operations: Mapping[str, Callable[[], Any]], rounds: int = ROUNDS) -> dict[str, list[float]]:
    """Time each in wall seconds, one after another in every round, after one round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in operations}
    for number in range(rounds + 1):
        for name, operation in operations.items():
            start = time.perf_counter()
            operation()
            if number:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def bench_cpu(form: FusionForm) -> dict[str, Any]:
    """Time the fusion of one stage at 64 x 64, T = 5, float32, in low rank and plainly."""
    visual, audio, weights = fusion_inputs(torch.float32, "cpu")
    operations = {"plain": fuse_plainly, "low rank": fuse}
    with torch.no_grad():
        seconds = in_turns({name: partial(f, visual, audio, weights, form) for name, f in operations.items()})
        counts = {name: count_operators(f, visual, audio, weights, form) for name, f in operations.items()}
    rows = {
        name: {**summary(seconds[name]), "gflop": counts[name].flop / 1e9, "mbytes": counts[name].bytes / 1e6}
        for name in operations
    }
    ratios = [a / b for a, b in zip(seconds["plain"], seconds["low rank"], strict=True)]
    return {"form": form, "rows": rows, "speed_ratio_median": statistics.median(ratios)}


def gpu_operations(
    dtype: torch.dtype,
) -> dict[str, tuple[Callable[..., Any], Callable[..., Any], tuple[Any, ...], int]]:
    """List each operator: eager form, fused form, arguments, and the bytes that it cannot avoid to move."""
    visual, audio, weights = fusion_inputs(dtype, "cuda")

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, device="cuda").to(dtype)

    def fused(visual: Tensor, audio: Tensor, weights: FusionWeights, form: str) -> Any:
        return operators.audio_visual_fusion(visual, audio, *weights, form)

    angles = torch.rand(SIDE**2, WIDTH // 2, device="cuda")
    reading = (
        normal(SIDE**2, WIDTH),
        normal(NUM_KEYS, WIDTH),
        normal(NUM_KEYS, MEMORY_WIDTH),
        angles.cos(),
        angles.sin(),
        NUM_POINTER_TOKENS,
    )
    hidden = normal(NUM_FRAMES, SIDE**2, 4 * WIDTH)
    weight, bias = normal(4 * WIDTH, 1, 3, 3), normal(4 * WIDTH)

    def size(*tensors: Tensor) -> int:
        return sum(t.numel() * t.element_size() for t in tensors)

    twice = 2 * size(visual)
    return {
        "fusion, released": (fuse_plainly, fused, (visual, audio, weights, "released"), twice),
        "fusion, paper": (fuse_plainly, fused, (visual, audio, weights, "paper"), twice),
        "memory attention": (memory_attention, operators.memory_attention, reading, size(*reading[:5])),
        "depth-wise GELU": (
            depthwise_gelu,
            operators.depthwise_gelu,
            (hidden, weight, bias, SIDE),
            2 * size(hidden),
        ),
    }


def bench_gpu(dtype: torch.dtype) -> list[dict[str, Any]]:
    from triton.testing import do_bench

    big = torch.empty(1 << 28, dtype=torch.uint8, device="cuda")
    copy_ms = float(do_bench(lambda: big.clone(), return_mode="median"))
    bytes_a_ms = 2 * big.numel() / copy_ms
    rows = []
    for name, (eager, fused, arguments, floor) in gpu_operations(dtype).items():
        times = {"eager": eager, "torch.compile": torch.compile(eager), "fused": fused}
        with torch.no_grad():
            measured = {
                kind: float(do_bench(partial(function, *arguments), return_mode="median"))
                for kind, function in times.items()
            }
        rows.append({"operator": name, "dtype": str(dtype)[6:], "floor_ms": floor / bytes_a_ms, **measured})
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m kernels.bench", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too; default: nowhere")
    options = parser.parse_args(arguments)
    result: dict[str, Any] = {"torch": torch.__version__}
    if torch.cuda.is_available():
        result |= {"device": torch.cuda.get_device_name()}
        result["rows"] = [row for dtype in (torch.float16, torch.bfloat16) for row in bench_gpu(dtype)]
        print(f"{result['device']}, times in ms, medians by CUDA events")
        print("| operator | type | byte floor | eager | torch.compile | fused |\n|---|---|---|---|---|---|")
        for row in result["rows"]:
            cells = (f"{row[kind]:.3f}" for kind in ("floor_ms", "eager", "torch.compile", "fused"))
            print(f"| {row['operator']} | {row['dtype']} | {' | '.join(cells)} |")
    else:
        result |= {"device": platform.processor() or platform.machine(), "threads": torch.get_num_threads()}
        result["forms"] = [bench_cpu("released"), bench_cpu("paper")]
        print(f"CPU, {result['threads']} threads, float32, T = {NUM_FRAMES}, {SIDE} x {SIDE}, {ROUNDS} rounds in turns")
        print(
            "| form | computed | median ms | p20 | p80 | GFLOP | MB moved, eager count |\n|---|---|---|---|---|---|---|"
        )
        for part in result["forms"]:
            for name, row in part["rows"].items():
                cells = (f"{row[key]:.1f}" for key in ("median_ms", "p20_ms", "p80_ms"))
                print(f"| {part['form']} | {name} | {' | '.join(cells)} | {row['gflop']:.2f} | {row['mbytes']:.0f} |")
            print(f"{part['form']}: low rank is {part['speed_ratio_median']:.1f} times as fast (median of the rounds)")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
