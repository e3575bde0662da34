"""Weights that are not finite numbers: told by name before they are loaded or stored.

A single infinite variance makes batch norm give its bias alone, so a network with a dead channel runs on and nobody
sees it. No released tensor holds NaN or Inf, so one that does is damaged, or was stored in too narrow a type.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from auralsam2.checkpoints.names import join_keys
from auralsam2.errors import CheckpointError

REMEDY = "Fetch the file again, or store the weights in a wider type (float16 ends at 65504)."


def check_finite(state: Mapping[str, Tensor], what: str, remedy: str = REMEDY) -> None:
    """Refuse a state that holds NaN or Inf.

    Args:
        what: whose tensors these are, the start of the message.
        remedy: the way out, its end.
    Raises: CheckpointError naming each such tensor and how many of its values are not finite.
    """
    found = [_told(key, value) for key, value in state.items() if not _is_finite(value)]
    if found:
        raise CheckpointError(f"{what}: {join_keys(found, '; ')}. {remedy}")


def _is_finite(value: Tensor) -> bool:
    if not value.is_floating_point() or not value.numel():
        return True
    # One pass and no copy; NaN is the least and the greatest of all.
    least, greatest = torch.aminmax(_wide(value))
    return bool(torch.isfinite(least) & torch.isfinite(greatest))


def _told(key: str, value: Tensor) -> str:
    wide = _wide(value)
    num_nan, num_inf = int(wide.isnan().sum()), int(wide.isinf().sum())
    kinds = [f"{count} {kind}" for count, kind in ((num_nan, "NaN"), (num_inf, "Inf")) if count]
    return f"{key}: {num_nan + num_inf} of {value.numel()} values are not finite ({', '.join(kinds)})"


def _wide(value: Tensor) -> Tensor:
    """Types of one byte know no comparison."""
    return value.float() if value.element_size() == 1 else value
