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
_TEXT_FILES = {"compact": "compact-text.safetensors"}
SHIPPED = tuple(_FILES)
"""Presets and methods that come with weights."""


def shipped_weights(preset: str, method: str = AURALSAM2) -> Path | None:
    """Find the file of a preset's trained weights, safetensors under released names; None where there is none.

    Those of adapters have no SAM2 in them: theirs is that of AuralSAM2's file.

    Float16, but for values that it cannot hold; see `training.run_folder.fits_half`.
    """
    return _find(_FILES.get((preset, method)))


def shipped_class_head(preset: str) -> Path | None:
    """Find the file of the class head that was trained on a preset's shipped weights; None where there is none."""
    return _find(_CLASS_HEADS.get(preset))


def shipped_text_weights(preset: str) -> Path | None:
    """Find the file of fuser and text encoder, which reads beside SAM2's part of `shipped_weights`; None: no file."""
    return _find(_TEXT_FILES.get(preset))


def _find(name: str | None) -> Path | None:
    if name is None:
        return None
    path = Path(str(resources.files("auralsam2") / "weights" / name))
    return path if path.is_file() else None


def fingerprint(path: Path) -> str:
    """Compute the first eight digits of the file's sha256."""
    return sha256_of(path)[:8]


def sha256_of(path: Path) -> str:
    """Hash a file with sha256; return the hexadecimal digest."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
