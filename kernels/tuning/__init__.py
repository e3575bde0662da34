"""Block sizes, looked up and never searched for: `kernels/tuning/*.json`, written by `python -m kernels.tune`.

A table is named by the card that measured it, or by a compute capability (`sm_90.json`) where it comes from the model
of occupancy and roofline; its field `source` says which. A card takes its own table if there is one, else that of its
capability. No request ever tunes.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from kernels.launching.errors import KernelError
from kernels.launching.launch import ELEMENT_NAMES, Blocks

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Table:
    """What one file says."""

    gpu: str
    source: str
    """"measured" with the versions, or "model" with the card that was modelled."""
    blocks: Mapping[str, Mapping[str, Blocks]]
    """By type (fp32, fp16, bf16), then by kernel."""


def file_name(gpu: str) -> str:
    """Name the file of a card by its marketing name, or of a capability by `sm_<number>`."""
    return gpu.lower().replace(" ", "_").replace("/", "_") + ".json"


def read(path: Path) -> Table:
    content: dict[str, Any] = json.loads(path.read_text())
    blocks = {
        dtype: {
            kernel: Blocks(entry["sizes"], entry["num_warps"], entry["num_stages"]) for kernel, entry in kernels.items()
        }
        for dtype, kernels in content["blocks"].items()
    }
    return Table(content["gpu"], content["source"], blocks)


def write(table: Table, folder: Path = FOLDER) -> Path:
    blocks = {
        dtype: {
            kernel: {"sizes": dict(own.sizes), "num_warps": own.num_warps, "num_stages": own.num_stages}
            for kernel, own in kernels.items()
        }
        for dtype, kernels in table.blocks.items()
    }
    path = folder / file_name(table.gpu)
    path.write_text(json.dumps({"gpu": table.gpu, "source": table.source, "blocks": blocks}, indent=1) + "\n")
    return path


@cache
def table_of(gpu: str, capability: int) -> Table:
    """Read the table of a card, else of its capability (10 x major + minor).

    Raises: KernelError when there is neither; it names the capabilities that have one.
    """
    for name in (gpu, f"sm_{capability}"):
        path = FOLDER / file_name(name)
        if path.exists():
            return read(path)
    known = ", ".join(sorted(path.stem for path in FOLDER.glob("sm_*.json")))
    raise KernelError(
        f"no block sizes for {gpu} (compute capability {capability}); tables exist for {known}. Write one on the card:"
        " python -m kernels.tune"
    )


def blocks_of(dtype: torch.dtype, gpu: str, capability: int) -> Mapping[str, Blocks]:
    """Return the block sizes of every kernel for one type. Raises KernelError for a type or card without kernels."""
    if dtype not in ELEMENT_NAMES:
        raise KernelError(f"kernels exist for {', '.join(ELEMENT_NAMES.values())}, not for {dtype}.")
    return table_of(gpu, capability).blocks[ELEMENT_NAMES[dtype]]


def blocks_for(dtype: torch.dtype, device: torch.device) -> Mapping[str, Blocks]:
    """Return the block sizes as `blocks_of` does, for the card that `device` is."""
    major, minor = torch.cuda.get_device_capability(device)
    return blocks_of(dtype, torch.cuda.get_device_name(device), 10 * major + minor)
