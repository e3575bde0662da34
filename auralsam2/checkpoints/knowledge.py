"""What a file of weights says of itself: the data that it was trained on, in the header of a safetensors file."""

import json

from auralsam2.checkpoints.files import fetch
from auralsam2.checkpoints.kinds import kind_of
from auralsam2.errors import CheckpointError

TRAINED_ON, CLASSES = "trained_on", "classes"
"""Keys of the header."""


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


def class_names(reference: str) -> tuple[str, ...]:
    """Read the names of the classes from the file of a class head, in the order of their labels from 1.

    Raises: CheckpointError where its header does not name them; and as `header`.
    """
    file, said = fetch(reference).name, header(reference)
    try:
        names = json.loads(said.get(CLASSES, ""))
    except ValueError:
        names = None
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        raise CheckpointError(
            f"{file}: its header does not name its classes ({CLASSES} = {said.get(CLASSES)!r}); it must be a JSON list"
            " of names, one a token. A file of torch.save has no header: store the head as safetensors."
        )
    if len(set(names)) < len(names):
        raise CheckpointError(f"{file}: its header names a class twice ({CLASSES} = {said[CLASSES]}).")
    return tuple(names)
