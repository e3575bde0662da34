"""Which tensors of a graph come near the largest number of a narrow type."""

from collections.abc import Mapping

from export.precision.type_rules import LARGEST

OVERFLOW_MARGIN = 4


def near_overflow(largest: Mapping[str, float], precision: str) -> tuple[str, ...]:
    """Name the tensors, for `keep`, within OVERFLOW_MARGIN of the largest number of `precision`; NaN counts as near."""
    return tuple(name for name, value in largest.items() if not value < LARGEST[precision] / OVERFLOW_MARGIN)
