"""The cards that the roofline is drawn for: the vendors' figures, dense tensor throughput with float32 accumulation.

Sources: NVIDIA's data sheets and architecture white papers of A100 (SXM, 80 GB), A10, RTX 4090 (Ada), H100 (SXM), B200
and RTX 5090 (Blackwell).
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Card:
    name: str
    capability: int
    """Compute capability, 10 x major + minor."""
    num_multiprocessors: int
    bandwidth: float
    """Device memory, bytes a second."""
    cache_bytes: int
    """Second-level cache."""
    half_flop: float
    """FLOP a second of float16 and bfloat16 matrix products."""
    tf32_flop: float


CARDS = (
    Card("A100", 80, 108, 2.04e12, 40 << 20, 312e12, 156e12),
    Card("A10", 86, 72, 0.60e12, 6 << 20, 125e12, 62.5e12),
    Card("RTX 4090", 89, 128, 1.01e12, 72 << 20, 165e12, 82.6e12),
    Card("H100", 90, 132, 3.35e12, 50 << 20, 989e12, 495e12),
    Card("B200", 100, 148, 8.0e12, 126 << 20, 2250e12, 1125e12),
    Card("RTX 5090", 120, 170, 1.79e12, 96 << 20, 210e12, 105e12),
)
"""One for each compute capability that kernels are compiled for; the block sizes of a capability are modelled on it."""


def card_of(capability: int) -> Card:
    """Find the card of a capability. Raises KeyError for a capability without a card."""
    return {card.capability: card for card in CARDS}[capability]
