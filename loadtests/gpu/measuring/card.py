"""The card: what it is, at which clocks, and how fast it copies and multiplies, measured in the same run."""

import csv
import io
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from loadtests.gpu.measuring.timing import Timer

SIZES = {"cuda": (8192, 1 << 30), "cpu": (256, 1 << 20)}
"""Of the product and the copy; a CPU only tries the bench itself."""
CALLS = 10
PACKAGES = ("torch", "triton", "numpy", "sam2", "tritonclient")
QUERY = (
    "name",
    "driver_version",
    "memory.total",
    "power.limit",
    "clocks.sm",
    "clocks.max.sm",
    "clocks.mem",
    "temperature.gpu",
)
"""What nvidia-smi is asked; MiB, W, MHz and degrees Celsius."""
CHANGING = ("clocks.sm", "clocks.max.sm", "clocks.mem", "temperature.gpu")
NO_CARD = "no CUDA card: PyTorch finds none here. `auralsam2 doctor` says what is missing."


def smi(query: tuple[str, ...] = QUERY) -> dict[str, str]:
    """Ask nvidia-smi about the card that PyTorch calls the first; empty where it is missing or silent."""
    # A number or a UUID: both name a card to nvidia-smi too.
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0] or "0"
    try:
        done = subprocess.run(
            ["nvidia-smi", f"--id={first}", f"--query-gpu={','.join(query)}", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    return parse_smi(done.stdout, query)


def parse_smi(text: str, query: tuple[str, ...]) -> dict[str, str]:
    """Read the first line of nvidia-smi's CSV, by what was asked; empty unless it answers all of it."""
    cells = next(csv.reader(io.StringIO(text), skipinitialspace=True), [])
    return dict(zip(query, cells, strict=True)) if len(cells) == len(query) else {}


def describe(device: str) -> dict[str, Any]:
    """Describe card, driver and versions: what a figure is of."""
    found: dict[str, Any] = {"python": platform.python_version()}
    found["versions"] = {name: number for name in PACKAGES if (number := _version(name))}
    if device != "cuda":
        return {"card": f"no card, {platform.machine()}", "driver": "none", "cuda": "none", **found}
    properties = torch.cuda.get_device_properties(0)
    told = smi()
    return {
        "card": properties.name,
        "driver": told.get("driver_version", "unknown"),
        "cuda": str(torch.version.cuda),
        "capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "memory_gb": round(properties.total_memory / 1e9, 1),
        "power_limit_w": told.get("power.limit", "unknown"),
        **found,
    }


def describe_clocks() -> dict[str, str]:
    """Read what changes while a card works: its clocks in MHz and its temperature."""
    told = smi()
    return {
        name: told[name] for name in ("clocks.sm", "clocks.max.sm", "clocks.mem", "temperature.gpu") if name in told
    }


def measure_peaks(
    timer: Timer, device: str, dtype: torch.dtype, sizes: tuple[int, int] | None = None
) -> dict[str, float]:
    """Measure FLOP a second of one cubic product, random data, and bytes a second read and written by a copy.

    Both are the best of some calls: what the card can do, beside which a kernel's share is given.
    """
    side, num_bytes = SIZES[device] if sizes is None else sizes
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    product = torch.empty_like(a)
    source = torch.zeros(num_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)

    def multiply() -> None:
        torch.mm(a, b, out=product)

    def copy() -> None:
        target.copy_(source)

    fastest = {name: min(timer(call) for _ in range(CALLS)) for name, call in (("mm", multiply), ("copy", copy))}
    return {
        "gemm_side": side,
        "gemm_flop_per_s": 2.0 * side**3 / (1e-3 * fastest["mm"]),
        "copy_bytes_per_s": 2.0 * num_bytes / (1e-3 * fastest["copy"]),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
