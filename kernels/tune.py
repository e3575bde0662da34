"""Block sizes chosen ahead of time: `python -m kernels.tune`.

On a CUDA machine every candidate of every kernel is timed on the card, and the table takes the card's name. Elsewhere,
with `--capability`, a model chooses among the same candidates, all compiled for that capability: what spills or touches
local memory is out, then the shortest time of

    max(bytes / bandwidth, bytes the programs ask for / cache bandwidth) * full waves / (share of latency hidden)

where the share is resident warps of 12 a multiprocessor, 1 at most. It is a way to choose, not a prediction: the table
says that no card has measured it.
"""

import argparse
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product

import torch
import triton

from kernels.catalogue import default_blocks, plans
from kernels.compilation import compile_launch
from kernels.launching.cards import card_of
from kernels.launching.launch import ELEMENT_NAMES, Blocks, Launch, Plan
from kernels.launching.occupancy import ARCHITECTURES, architecture, resident_blocks, resident_warps
from kernels.launching.prepared import Prepared
from kernels.tuning import Table, write

WARPS_TO_HIDE_LATENCY = 12
CACHE_OVER_MEMORY = 3.0
"""Bandwidth of the second-level cache over that of device memory; between 2 and 5 on the cards named here."""

CANDIDATES: Mapping[str, Mapping[str, Sequence[int]]] = {
    "released_sums": {"BLOCK_C": (32, 64, 128), "num_warps": (4, 8)},
    "released_mix": {"BLOCK_P": (32, 64), "num_warps": (4, 8)},
    "paper_mix": {"BLOCK_P": (16, 32, 64), "num_warps": (4, 8)},
    "paper_sums": {"BLOCK_P": (32, 64), "num_warps": (4, 8)},
    "depthwise_gelu": {"ROWS": (4, 8), "BLOCK_F": (32, 64), "num_warps": (4, 8)},
}
"""What is varied, kernel by kernel; every other size stays as in `default_blocks`. bfloat16 is cut as float16 is."""
TUNED_ON = ("fusion, released, 64 x 64", "fusion, paper, 64 x 64", "depth-wise GELU, 64 x 64")


def candidates(kernel: str, start: Blocks) -> Iterator[Blocks]:
    """Yield the starting point first, then every variation of it."""
    yield start
    varied = CANDIDATES[kernel]
    for values in product(*varied.values()):
        choice = dict(zip(varied, values, strict=True))
        warps = choice.pop("num_warps", start.num_warps)
        made = Blocks({**start.sizes, **choice}, warps, start.num_stages)
        if made != start:
            yield made


@dataclass(frozen=True)
class Candidate:
    """One kernel of a plan, cut in one way."""

    blocks: Blocks
    plan: Plan
    launch: Launch


def cut(kernel: str, dtype: torch.dtype, blocks: Mapping[str, Blocks]) -> Iterator[Candidate]:
    """Yield every way to cut `kernel`, in the plan that it is tuned on."""
    for own in candidates(kernel, blocks[kernel]):
        for name in TUNED_ON:
            plan = plans(dtype, {**blocks, kernel: own})[name]
            for launch in plan.launches:
                if launch.name == kernel:
                    yield Candidate(own, plan, launch)


def requested_bytes(candidate: Candidate) -> float:
    """Count what all programs ask of the cache: each reads its weights again, and the depth-wise one its halo."""
    plan, launch = candidate.plan, candidate.launch
    size = candidate.blocks.sizes
    own = float(plan.traffic()[launch.name])
    programs = math.prod(launch.grid)
    if launch.name == "depthwise_gelu":
        rows, columns = size["ROWS"], size["BLOCK_W"]
        return own / 2 * (1 + (rows + 2) / rows * (columns + 2) / columns)
    shared = {"released_sums": "visual_in", "released_mix": "mixing", "paper_mix": "folded", "paper_sums": "folded"}
    buffer = plan.buffers[shared[launch.name]]
    frames = buffer.shape[0] if launch.name == "released_mix" else 1  # a program reads its own frame's
    return own + programs * buffer.num_bytes / frames


def modelled_seconds(capability: int, candidate: Candidate) -> float:
    """Model the time of one launch; infinite where the compiler spills or the card has no room for it."""
    compiled = compile_launch(candidate.plan, candidate.launch, capability)
    if compiled.spill_loads or compiled.stack_bytes or compiled.local_memory_instructions:
        return math.inf
    if compiled.shared_bytes > architecture(capability).shared_bytes_per_block:
        return math.inf
    card = card_of(capability)
    moved = candidate.plan.traffic()[candidate.launch.name]
    asked = requested_bytes(candidate)
    seconds = max(moved / card.bandwidth, asked / (CACHE_OVER_MEMORY * card.bandwidth))
    programs = math.prod(candidate.launch.grid)
    slots = resident_blocks(compiled) * card.num_multiprocessors
    waves = math.ceil(programs / slots) * slots / programs if programs > slots else 1.0
    return seconds * waves / min(1.0, resident_warps(compiled) / WARPS_TO_HIDE_LATENCY)


def measured_seconds(candidate: Candidate) -> float:
    """Measure the median time of one launch on the card of this machine; infinite where it cannot run."""
    from triton.testing import do_bench

    plan = replace(candidate.plan, launches=(candidate.launch,))
    tensors = {name: torch.randn(buffer.shape, device="cuda").to(buffer.dtype) for name, buffer in plan.buffers.items()}
    held = replace(plan, inputs=tuple(name for name in tensors if name not in candidate.launch.outputs.values()))
    launch, inputs = Prepared(held), [tensors[name] for name in held.inputs]
    try:
        return float(do_bench(lambda: launch(inputs), return_mode="median")) / 1e3
    except triton.runtime.errors.OutOfResources:
        return math.inf


def choose_blocks(
    dtype: torch.dtype, capability: int, seconds: Callable[[Candidate], float], report: Callable[[str], None]
) -> dict[str, Blocks]:
    """Choose the block sizes of every kernel for one type, the varied ones by least time."""
    blocks = default_blocks(dtype, capability)
    for kernel in CANDIDATES:
        ranked: Iterable[tuple[float, int, Blocks]] = (
            (seconds(candidate), place, candidate.blocks) for place, candidate in enumerate(cut(kernel, dtype, blocks))
        )
        best, _, chosen = min(ranked)
        report(f"{ELEMENT_NAMES[dtype]} {kernel}: {dict(chosen.sizes)}, {chosen.num_warps} warps, {best * 1e6:.1f} us")
        blocks[kernel] = chosen
    return blocks


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m kernels.tune", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--capability",
        type=int,
        nargs="+",
        choices=ARCHITECTURES,
        help="choose by the model instead; default: measure on this machine's card",
    )
    options = parser.parse_args(arguments)
    if options.capability is None:
        if not torch.cuda.is_available():
            parser.error("no CUDA card here to measure on; name a --capability to choose by the model.")
        major, minor = torch.cuda.get_device_capability()
        gpu = torch.cuda.get_device_name()
        source = f"measured on the card; torch {torch.__version__}, triton {triton.__version__}"
        choices = [(gpu, 10 * major + minor, source, measured_seconds)]
    else:
        choices = [
            (
                f"sm_{capability}",
                capability,
                f"model of occupancy and roofline for {card_of(capability).name}, triton {triton.__version__};"
                " no card has measured it",
                partial(modelled_seconds, capability),
            )
            for capability in options.capability
        ]
    for gpu, capability, source, seconds in choices:
        table = {
            ELEMENT_NAMES[dtype]: choose_blocks(dtype, capability, seconds, print)
            for dtype in (torch.float32, torch.float16)
        }
        table["bf16"] = table["fp16"]
        print(write(Table(gpu, source, table)))


if __name__ == "__main__":
    main()
