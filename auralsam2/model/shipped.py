"""The trained weights that come with the project. Their model card lies beside them: weights/README.md."""

import hashlib
from importlib import resources
from pathlib import Path

from auralsam2_client.contract import AURALSAM2

_FILES = {
    ("compact", AURALSAM2): "compact.safetensors",
    ("compact", "gavs"): "compact-gavs.safetensors",
    ("compact", "sama_avs"): "compact-sama-avs.safetensors",
}
_CLASS_HEADS = {"compact": "compact-classes.safetensors"}
SHIPPED = tuple(_FILES)
"""Presets and methods that come with weights."""


def shipped_weights(preset: str, method: str = AURALSAM2) -> Path | None:
    """Find the file of a preset's trained weights, safetensors under released names; None where there is none.

    Those of adapters have no SAM2 in them: theirs is that of AuralSAM2's file.

    Float16, but for values that it cannot hold; see `training.run_folder.fits_half`.
    """
    if (preset, method) not in _FILES:
        return None
    path = Path(str(resources.files("auralsam2") / "weights" / _FILES[preset, method]))
    return path if path.is_file() else None


def shipped_class_head(preset: str) -> Path | None:
    """Find the file of the class head that was trained on a preset's shipped weights; None where there is none."""
    if preset not in _CLASS_HEADS:
        return None
    path = Path(str(resources.files("auralsam2") / "weights" / _CLASS_HEADS[preset]))
    return path if path.is_file() else None


def fingerprint(path: Path) -> str:
    """Compute the first eight digits of the file's sha256."""
    return sha256_of(path)[:8]


def sha256_of(path: Path) -> str:
    """Hash a file with sha256; return the hexadecimal digest."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
