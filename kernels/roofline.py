"""The shortest time that each operator could take on a card: `python -m kernels.roofline`.

Bytes are those of the operator's plan, each buffer of each launch once; FLOP those of its matrix products (depth-wise:
of its multiply-adds). The time is the longer of bytes over bandwidth and FLOP over throughput, in float16.
"""

from dataclasses import dataclass

import torch

from kernels.catalogue import default_blocks, plans
from kernels.launching.cards import CARDS, Card

DRAWN = ("RTX 4090", "H100", "B200")


@dataclass(frozen=True)
class Work:
    operator: str
    flop: float
    bytes: float
    on_tensor_cores: bool

    def seconds(self, card: Card) -> float:
        # Outside tensor cores: float32 throughput, a quarter of tf32's on these cards or less, is never the limit here.
        arithmetic = self.flop / card.half_flop if self.on_tensor_cores else 0.0
        return max(self.bytes / card.bandwidth, arithmetic)

    def bound(self, card: Card) -> str:
        return "bytes" if self.seconds(card) == self.bytes / card.bandwidth else "FLOP"


def _fusion_flop(num_frames: int, num_pixels: int, num_tokens: int, width: int, inner: int) -> dict[str, float]:
    """Two FLOP a multiply-add; the small products of M rows alone are left out."""
    rows = num_frames * num_pixels
    blocks = rows // inner
    small = 4 * blocks * num_tokens * inner * width  # scores, weighed, turned, summed
    released = 2 * (2 * rows * num_tokens * width + small + rows * num_frames * num_tokens * width)
    paper = 2 * 4 * rows * num_tokens * width
    return {"released": float(released), "paper": float(paper)}


def works(dtype: torch.dtype = torch.float16) -> list[Work]:
    """List the operators of a 1024 px clip of five frames."""
    made = plans(dtype, default_blocks(dtype, 90))
    fusion = _fusion_flop(5, 64 * 64, 5, 256, 128)

    def moved(name: str) -> float:
        return float(sum(made[name].traffic().values()))

    return [
        Work("fusion, released", fusion["released"], moved("fusion, released, 64 x 64"), True),
        Work("fusion, paper", fusion["paper"], moved("fusion, paper, 64 x 64"), True),
        Work("memory attention", 2.0 * 4096 * 28736 * (256 + 64), moved("memory attention, 64 x 64"), True),
        Work("depth-wise GELU", 2.0 * 9 * 5 * 4096 * 1024, moved("depth-wise GELU, 64 x 64"), False),
    ]


def table() -> str:
    """Write Markdown: FLOP, bytes, and for each card the shortest time and what bounds it."""
    cards = [card for card in CARDS if card.name in DRAWN]
    head = ["operator", "GFLOP", "MB", "FLOP a byte", *(card.name for card in cards)]
    lines = [head, ["---"] * len(head)]
    for work in works():
        times = (f"{1e6 * work.seconds(card):.1f} us, {work.bound(card)}" for card in cards)
        figures = (f"{work.flop / 1e9:.2f}", f"{work.bytes / 1e6:.1f}", f"{work.flop / work.bytes:.0f}")
        lines.append([work.operator, *figures, *times])
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


if __name__ == "__main__":
    print(table())
