"""The folder of one training run: checkpoints to resume from, weights to ship, the TensorBoard log.

A checkpoint is written beside its name and moved into place, so that a kill at any moment leaves the last good one.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from auralsam2.checkpoints import check_finite, load_torch
from auralsam2.errors import CheckpointError, TrainingError
from auralsam2.training.settings import TrainSettings
from auralsam2_client.new_file import new_file

CHECKPOINT = "checkpoint.pt"
WEIGHTS = "weights.safetensors"
HALF_WEIGHTS = "weights-float16.safetensors"
LOG = "log"
STATISTICS = ("running_mean", "running_var")
HALF_RANGE = (torch.finfo(torch.float16).smallest_normal, torch.finfo(torch.float16).max / 4)
"""Of a tensor's largest value: with all digits at one end, far from infinity at the other."""


def _replace(path: Path, write: Callable[[Path], None]) -> Path:
    with new_file(path) as partial:
        write(partial)
    return path


def save_checkpoint(folder: Path, settings: TrainSettings, state: dict[str, Any]) -> Path:
    """Write `state` and the settings as the folder's checkpoint.

    Raises: CheckpointError when a value of the network is not finite; the checkpoint that was there stays, since a step
        that makes such values has a finite loss, and only the next one tells.
    """
    remedy = "What stood in its place, if anything, is the last good one. Start again with a lower --learning-rate."
    check_finite(state.get("model", {}), f"{folder / CHECKPOINT} is not written", remedy)
    content = {"settings": asdict(settings), **state}
    return _replace(folder / CHECKPOINT, lambda path: torch.save(content, path))


def load_checkpoint(folder: Path, settings: TrainSettings) -> dict[str, Any] | None:
    """Load the folder's checkpoint, or None where there is none.

    Raises: TrainingError when it is damaged or something else, or belongs to a run of other settings; the differences
        are named.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    try:
        content = load_torch(path)
    except CheckpointError as error:
        raise TrainingError(f"{path}: not a readable training checkpoint ({error}) Remove it to start over.") from error
    theirs = content.get("settings") if isinstance(content, dict) else None
    if not isinstance(content, dict) or not isinstance(theirs, dict):
        raise TrainingError(f"{path}: not a readable training checkpoint: no run's settings. Remove it to start over.")
    differences = settings.differences(theirs)
    if differences:
        raise TrainingError(
            f"{path} belongs to another run: {'; '.join(differences)}. Resume with its settings, or choose another"
            " --out."
        )
    return content


def fits_half(key: str, value: Tensor) -> bool:
    """Tell whether float16 holds a float32 tensor well: its largest value must be 0 or in HALF_RANGE.

    Never of running statistics: each is divided by, or taken from, by itself, and they are few.
    """
    if key.endswith(STATISTICS) or not value.numel():
        return False
    largest = float(value.abs().max())
    return largest == 0 or HALF_RANGE[0] <= largest <= HALF_RANGE[1]


def save_weights(path: Path, state: Mapping[str, Tensor], metadata: dict[str, str], half: bool = False) -> Path:
    """Write weights as safetensors; `half` stores float32 as float16, which halves the file, where float16 holds it.

    Float32 stays what `fits_half` says: a variance of 70000 would be infinite in float16, and its channel dead.

    Args:
        state: under released names.
        metadata: plain strings, kept in the file's header.
    Raises: CheckpointError when a value is not finite; `path` is then as it was.
    """
    remedy = "Go back to the last good checkpoint, or mend batch norm statistics with training.after.statistics_repair."
    check_finite(state, f"{path.name} is not written", remedy)
    tensors = {
        key: (value.half() if half and value.dtype == torch.float32 and fits_half(key, value) else value).contiguous()
        for key, value in state.items()
    }
    written = _replace(path, lambda partial: save_file(tensors, partial, metadata=metadata))
    written.chmod(0o644)  # the library makes it readable by its owner alone
    return written
