"""The file of a class head: its tensors, and in its header the names of the classes and whose masks it was trained on.

Class tokens are trained after the masks, on those of one file of weights; the head keeps that file's sha256, so that
it is not set on a network whose features it never saw.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from auralsam2 import checkpoints
from auralsam2.classes.class_head import ClassHead
from auralsam2.classes.classifier import Classifier
from auralsam2.errors import CheckpointError
from auralsam2.model.loading import load_aural_sam2
from auralsam2.model.shipped import sha256_of, shipped_class_head, shipped_weights
from auralsam2.presets import Preset

PREFIX = "class_head."
NETWORK = "network_sha256"
"""Key of the header."""
_TRAIN = "Train one on these weights: python -m auralsam2.training.after.class_tuning --checkpoint WEIGHTS --out DIR"


def tensors_of(head: ClassHead) -> dict[str, Tensor]:
    """Collect the tensors of a head under the names that its file has."""
    return {PREFIX + key: value for key, value in head.state_dict().items()}


def header_of(names: Sequence[str], network: str) -> dict[str, str]:
    """Compose what a head's file says of itself.

    Args:
        names: of the classes, in the order of their tokens.
        network: sha256 of the weights whose masks it was trained on.
    """
    return {checkpoints.CLASSES: json.dumps(list(names)), NETWORK: network}


def load_classifier(preset: str = "compact", checkpoint: str | None = None, classes: str | None = None) -> Classifier:
    """Load a network and the class head that was trained on its masks.

    Args:
        checkpoint: the network's weights, as `load_aural_sam2` takes them; None: those shipped with the preset.
        classes: the head's file, a path or hf:// reference; None: the one shipped with the preset.
    Raises: CheckpointError when there is no head, a file holds none or not all of it, or it was trained on the masks of
        other weights; and what `load_aural_sam2` raises.
    """
    model, _ = load_aural_sam2(preset, checkpoint=checkpoint)
    weights = str(shipped_weights(preset)) if checkpoint is None else checkpoint
    if classes is None:
        shipped = shipped_class_head(preset)
        if shipped is None:
            raise CheckpointError(f"no class head is shipped for preset {preset!r}; give one. {_TRAIN}")
        classes = str(shipped)
    head, names = read_head(classes, model.preset, sha256_of(checkpoints.fetch(weights)))
    return Classifier(model, head, names)


def read_head(reference: str, preset: Preset, network: str) -> tuple[ClassHead, tuple[str, ...]]:
    """Read a class head and the names of its classes.

    Args:
        reference: of the file, as `checkpoints.fetch` takes it.
        preset: of the network that it is set on.
        network: sha256 of that network's weights.
    Raises: CheckpointError as `load_classifier`.
    """
    file, state = Path(reference).name, checkpoints.read(reference)
    own = {key.removeprefix(PREFIX): value for key, value in state.items() if key.startswith(PREFIX)}
    if not own:
        raise CheckpointError(
            f"{file} holds no class head: none of its {len(state)} tensors is a {PREFIX}*"
            f" ({_holds(state)}). {_TRAIN}, and give the file that it writes."
        )
    said = checkpoints.header(reference)
    names = checkpoints.class_names(reference)
    _check_network(file, said, network)
    head = ClassHead(preset, len(names))
    checkpoints.load_strictly(head, own, f"{file} (class head of {len(names)} classes, preset {preset.name})")
    return head, names


def _holds(state: Mapping[str, Tensor]) -> str:
    if checkpoints.is_whole(state):
        return "it is a network, which outlines what sounds and gives it no name"
    return "it holds " + ", ".join(sorted({key.partition(".")[0] for key in state})[:4])


def _check_network(file: str, said: Mapping[str, str], network: str) -> None:
    trained = said.get(NETWORK)
    if trained != network:
        raise CheckpointError(
            f"{file} was trained on the masks of weights with sha256 {trained and trained[:8]}, not of these,"
            f" {network[:8]}. Give the head of these weights. {_TRAIN}"
        )
