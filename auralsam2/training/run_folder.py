"""The folder of one training run: checkpoints to resume from, weights to ship, the TensorBoard log.

A checkpoint is written beside its name and moved into place, so that a kill at any moment leaves the last good one.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from auralsam2.checkpoints import check_finite
from auralsam2.errors import TrainingError
from auralsam2.training.settings import TrainSettings

CHECKPOINT = "checkpoint.pt"
PRETRAINED = "pretrained-{:08x}.safetensors"
WEIGHTS = "weights.safetensors"
HALF_WEIGHTS = "weights-float16.safetensors"
LOG = "log"


def _replace(path: Path, write: Any) -> Path:
    partial = path.with_name(path.name + ".partial")
    write(partial)
    return partial.replace(path)


def save_checkpoint(folder: Path, settings: TrainSettings, state: dict[str, Any]) -> Path:
    """Write `state` and the settings as the folder's checkpoint."""
    content = {"settings": asdict(settings), **state}
    return _replace(folder / CHECKPOINT, lambda path: torch.save(content, path))


def load_checkpoint(folder: Path, settings: TrainSettings) -> dict[str, Any] | None:
    """The folder's checkpoint, or None where there is none.

    Raises: TrainingError when it is damaged, or belongs to a run of other settings; the differences are named.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        theirs = content["settings"]
    except Exception as error:  # torch raises many kinds for a damaged file
        raise TrainingError(
            f"{path}: not a readable training checkpoint ({type(error).__name__}). Remove it to start over."
        ) from error
    differences = settings.differences(theirs)
    if differences:
        raise TrainingError(
            f"{path} belongs to another run: {'; '.join(differences)}. Resume with its settings, or choose another"
            " --out."
        )
    return content


def save_weights(path: Path, state: dict[str, Tensor], metadata: dict[str, str], half: bool = False) -> Path:
    """Write weights as safetensors; `half` stores float32 as float16, which halves the file.

    Args:
        state: under released names.
        metadata: plain strings, kept in the file's header.
    Raises: CheckpointError when a value is not finite, or would not be once stored; `path` is then as it was.
    """
    stored = {
        key: (value.half() if half and value.dtype == torch.float32 else value).contiguous()
        for key, value in state.items()
    }
    refused = f"{path.name} is not written"
    check_finite(state, refused, "Training has diverged: go back to an earlier checkpoint.")
    check_finite(stored, refused, "float16 ends at 65504: store them in float32.")
    written = _replace(path, lambda partial: save_file(stored, partial, metadata=metadata))
    written.chmod(0o644)  # the library makes it readable by its owner alone
    return written
