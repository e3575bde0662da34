"""Which kernels an operation launches on the card, how often, and how long they take there, by PyTorch's profiler."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch.profiler import ProfilerActivity

NAME_WIDTH = 90


@dataclass(frozen=True)
class Kernel:
    """All launches of one kernel within one call of the operation."""

    name: str
    launches: int
    us: float

    def record(self) -> dict[str, Any]:
        return {"kernel": self.name, "launches": self.launches, "us": self.us}


def sum_up(events: Iterable[tuple[str, float]]) -> list[Kernel]:
    """Sum up launches by kernel, the longest first.

    Args:
        events: name and microseconds of each launch.
    """
    sums: dict[str, tuple[int, float]] = {}
    for name, us in events:
        count, spent = sums.get(name, (0, 0.0))
        sums[name] = count + 1, spent + us
    kernels = [Kernel(name[:NAME_WIDTH], count, spent) for name, (count, spent) in sums.items()]
    return sorted(kernels, key=lambda kernel: -kernel.us)


def kernels_of(operation: Callable[[], object], device: str) -> list[Kernel]:
    """Run the operation once and list its kernels; none on a CPU."""
    if device != "cuda":
        return []
    operation()
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[ProfilerActivity.CUDA]) as profiler:
        operation()
        torch.cuda.synchronize()
    # Copies and fills are launches too; what the host did is not.
    return sum_up(
        (event.name, float(event.time_range.elapsed_us()))
        for event in profiler.events() or ()
        if event.device_type.name == "CUDA"
    )
