"""What a file of weights says of itself: the data that it was trained on, in the header of a safetensors file."""

from auralsam2.checkpoints.files import fetch
from auralsam2.checkpoints.kinds import kind_of
from auralsam2.errors import CheckpointError

TRAINED_ON = "trained_on"
"""Key of the header."""


def trained_on(reference: str) -> str:
    """Read what weights were trained on, as `contract.BuildInfo` names it; "" where the file does not say.

    Arguments and errors as `header`.
    """
    return header(reference).get(TRAINED_ON, "")


def header(reference: str) -> dict[str, str]:
    """Read what a file says of its weights; nothing of a file of `torch.save`, which has no place for it.

    Args:
        reference: as `fetch` takes it.
    Raises: CheckpointError for a file that is missing, or no weights.
    """
    path = fetch(reference)
    if kind_of(path) != "safetensors":
        return {}
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path.name}: not a readable safetensors file ({error}). Fetch it again.") from error
