"""One case, network by size by clip length, all ways in turns: seconds, stages, memory, masks; and the GEMM's peak."""

import contextlib
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from loadtests.cases.case import Case
from loadtests.cpu.ways import GRAPHS, IN_PROCESS, REFERENCE, Apart, Masks, Run, Served, Way, unavailable
from service.builds.manifest import read_manifest

GEMM_SIDE, GEMM_CALLS = 2048, 8


def measure(
    case: Case, build: Path, repeats: int, say: Callable[[str], None], compile_too: bool = False
) -> dict[str, Any]:
    """Time every way that this CPU has, one clip each in turns, `repeats` times after a warm-up.

    Args:
        build: an export of `case` for the CPU.
        compile_too: also the published implementation under `torch.compile`.
    Returns: what the JSON file holds.
    """
    manifest = read_manifest(build)
    left_out = {name: reason for name in IN_PROCESS if (reason := unavailable(name, compile_too))}
    runs: dict[str, list[Run]] = {}
    ways: list[Way] = [Apart(name, build) for name in IN_PROCESS if name not in left_out]
    ways.append(Served(build))
    peaks = [gemm_flops_per_s()]
    with contextlib.ExitStack() as stack:
        for way in ways:
            started = time.perf_counter()
            stack.enter_context(way)
            way.run()
            say(f"warm       {way.name}, {time.perf_counter() - started:.0f} s")
        for turn in range(repeats):
            for way in ways:
                runs.setdefault(way.name, []).append(way.run())
                say(f"turn {turn + 1}/{repeats}   {way.name:28} {runs[way.name][-1].seconds:8.2f} s")
            # In turns as well: a shared machine is faster in some minutes than in others.
            peaks.append(gemm_flops_per_s())
        memory = {way.name: way.peak_bytes() for way in ways}
    started = time.perf_counter()
    # The one before has filled the engines' caches and shown its answer.
    with Served(build):
        second_start_s = time.perf_counter() - started
    say(f"ready      second start of the server, {second_start_s:.1f} s")
    reference = statistics.median(run.seconds for run in runs[REFERENCE])
    truth = runs[REFERENCE][-1].masks
    flop = hiera_flop(case)
    return {
        "case": case.name,
        "preset": case.preset,
        "image_size": case.image_size,
        "num_frames": case.num_frames,
        "engine": manifest.engine,
        "precision": manifest.precision,
        "weights": manifest.weights,
        "repeats": repeats,
        "gemm_flops_per_s": max(peaks),
        "hiera_flop": flop,
        "left_out": left_out,
        "second_start_s": second_start_s,
        "ways": {
            name: _record(of_way, case, reference, truth)
            | _share_of_peak(of_way, flop["ours" if name == GRAPHS else "published"], max(peaks))
            | {"peak_bytes": memory[name]}
            for name, of_way in runs.items()
        },
    }


def _record(runs: list[Run], case: Case, reference: float, truth: Masks) -> dict[str, Any]:
    from auralsam2.evaluation.quality import mean_iou

    seconds = [run.seconds for run in runs]
    median = statistics.median(seconds)
    stages = {name: statistics.median(run.stages[name] for run in runs) for name in runs[0].stages}
    return {
        "seconds": seconds,
        "median_s": median,
        "p20_s": float(np.quantile(seconds, 0.2)),
        "p80_s": float(np.quantile(seconds, 0.8)),
        "frames_per_s": case.num_frames / median,
        "ratio": reference / median,
        "stages_s": stages,
        "mask_iou": mean_iou(runs[-1].masks, truth),
    }


def _share_of_peak(runs: list[Run], flop: int, peak: float) -> dict[str, float]:
    """How much of what one large product reaches the hiera stage does; nothing for a way without stages."""
    seconds = [run.stages["hiera"] for run in runs if "hiera" in run.stages]
    return {"hiera_share_of_peak": flop / statistics.median(seconds) / peak} if seconds else {}


def gemm_flops_per_s() -> float:
    """Measure what the cores reach in one float32 product of 2048 x 2048: the best of some calls."""
    import torch

    a, b = torch.randn(GEMM_SIDE, GEMM_SIDE), torch.randn(GEMM_SIDE, GEMM_SIDE)
    best = float("inf")
    for _ in range(GEMM_CALLS):
        started = time.perf_counter()
        torch.mm(a, b)
        best = min(best, time.perf_counter() - started)
    return 2.0 * GEMM_SIDE**3 / best


def hiera_flop(case: Case) -> dict[str, int]:
    """Count floating-point operations of the hiera stage for a clip, as published and in our graph."""
    import torch

    from auralsam2 import AuralSAM2
    from auralsam2.network import image_encoder
    from auralsam2.stages.image_stages import HieraStage
    from kernels.counting import count_operators

    model = AuralSAM2.from_preset(case.preset, case.image_size)
    ours = HieraStage(model).to("meta")
    sam = model.v_model.to("meta")
    frames = torch.zeros(1, case.image_size, case.image_size, 3, dtype=torch.uint8, device="meta")

    def published(frames: torch.Tensor) -> None:
        fpn = image_encoder.pyramid(sam, image_encoder.normalise(frames), ours.position)
        sam.sam_mask_decoder.conv_s0(fpn[0])
        sam.sam_mask_decoder.conv_s1(fpn[1])

    return {
        "published": case.num_frames * count_operators(published, frames).flop,
        "ours": case.num_frames * count_operators(ours, frames).flop,
    }
