"""Which method's weights a file holds, told by its tensors."""

from collections.abc import Mapping

from torch import Tensor

from auralsam2.checkpoints.names import FUSER, current_names
from auralsam2.errors import CheckpointError
from auralsam2.network.adapters import WIDTHS
from auralsam2_client.contract import AURALSAM2

_ADAPTER = f"{FUSER}decoder.0.up.weight"


def method_of(state: Mapping[str, Tensor]) -> str:
    """Tell whose weights a file's tensors are: auralsam2 | gavs | sama_avs.

    Raises: CheckpointError for adapters of a width that is none of the methods'.
    """
    adapter = current_names(state).get(_ADAPTER)
    if adapter is None:
        return AURALSAM2
    hidden = adapter.shape[-1]
    for method, width in WIDTHS.items():
        if hidden == width:
            return method
    known = ", ".join(f"{width} ({method})" for method, width in WIDTHS.items())
    raise CheckpointError(f"the checkpoint has adapters of width {hidden}; known are {known}.")
