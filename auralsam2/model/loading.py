"""A network with its weights: the one way from a checkpoint, or from two where SAM2's own lie in another file."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from auralsam2 import checkpoints
from auralsam2.errors import CheckpointError, NetworkError
from auralsam2.model.adapted_sam2 import AdaptedSAM2
from auralsam2.model.aural_sam2 import AuralSAM2
from auralsam2.model.shipped import fingerprint, shipped_weights
from auralsam2.model.sounding_sam2 import SoundingSAM2
from auralsam2_client.contract import AURALSAM2, METHODS


def load_network(
    preset: str,
    image_size: int | None = None,
    checkpoint: str | None = None,
    sam2_checkpoint: str | None = None,
    method: str = AURALSAM2,
) -> tuple[SoundingSAM2, str]:
    """Load a network with trained weights, and say what they are.

    Args:
        checkpoint: path or hf:// reference; None: the weights shipped with the preset.
        sam2_checkpoint: SAM2's own file, for a checkpoint that holds the fuser alone.
        method: auralsam2 | gavs | sama_avs: whose shipped weights; a checkpoint tells its own.
    Raises: CheckpointError when there are no weights, or they do not fit; NetworkError for an unknown preset or size.
    """
    if method not in METHODS:
        raise NetworkError(f"method {method!r} is unknown; choose one of {', '.join(METHODS)}.")
    checkpoints.check(checkpoint, sam2_checkpoint)
    if checkpoint is not None:
        name, about = checkpoint, f"weights {Path(checkpoint).name}{_misnamed(checkpoint)}"
    else:
        path = shipped_weights(preset, method)
        if path is None:
            of = "" if method == AURALSAM2 else f" and method {method!r}"
            raise CheckpointError(f"no weights are shipped for preset {preset!r}{of}; give some with --checkpoint.")
        name, about = str(path), f"shipped weights {fingerprint(path)}"
        if method != AURALSAM2:
            sam2_checkpoint = str(shipped_weights(preset))
    return build_network(name, checkpoints.read(name), preset, image_size, sam2_checkpoint), about


def load_aural_sam2(
    preset: str, image_size: int | None = None, checkpoint: str | None = None, sam2_checkpoint: str | None = None
) -> tuple[AuralSAM2, str]:
    """Load as `load_network` what is AuralSAM2. Raises: CheckpointError for weights of another method too."""
    model, about = load_network(preset, image_size, checkpoint, sam2_checkpoint)
    if not isinstance(model, AuralSAM2):
        raise CheckpointError(f"{checkpoint} holds weights of {model.method}; this works on {AURALSAM2}'s.")
    return model, about


def build_network(
    name: str,
    state: Mapping[str, Tensor],
    preset: str,
    image_size: int | None = None,
    sam2_checkpoint: str | None = None,
) -> SoundingSAM2:
    """Build the network that a checkpoint's tensors are made for, and load them.

    Args:
        name: of the checkpoint, for messages.
        state: its tensors under any released names; with text in them, the network gets its text projection.
        sam2_checkpoint: as for `load_network`.
    Raises: CheckpointError when the network's weights are in neither file, or a file does not fit; NetworkError for an
        unknown preset or size.
    """
    lacks = checkpoints.lacks(state) if sam2_checkpoint is None else None
    if lacks is not None:
        raise CheckpointError(f"{name} {lacks}")
    model = new_network(preset, checkpoints.method_of(state), image_size, text=checkpoints.reads_text(state))
    if sam2_checkpoint is not None:
        checkpoints.load_sam2(model, checkpoints.read(sam2_checkpoint))
    model.load_released(state)
    return model


def new_network(preset: str, method: str, image_size: int | None = None, text: bool = False) -> SoundingSAM2:
    """Build a method's network with untrained weights. Raises: NetworkError for an unknown preset, method or size."""
    if method == AURALSAM2:
        return AuralSAM2.from_preset(preset, image_size, text=text)
    return AdaptedSAM2.from_preset(preset, method, image_size)


def _misnamed(checkpoint: str) -> str:
    """What a file of weights is, where its name says something else."""
    path = checkpoints.fetch(checkpoint)
    kind = checkpoints.kind_of(path)
    if (kind == "safetensors") == (path.suffix.lower() == ".safetensors"):
        return ""
    return f" ({'safetensors' if kind == 'safetensors' else 'of torch.save'} under another name)"
