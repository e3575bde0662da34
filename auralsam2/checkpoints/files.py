"""Files of weights: .pth and .pt (read with weights_only=True), .safetensors; from a path or the Hugging Face hub."""

from pathlib import Path

import torch
from torch import Tensor

from auralsam2.checkpoints.finite import check_finite
from auralsam2.errors import CheckpointError

HUB_SCHEME = "hf://"
WRAPPERS = ("model", "state_dict", "model_state_dict")
SUFFIXES = (".pth", ".pt", ".safetensors")
# The first line of the text that stands in for a large file in a clone made without Git LFS.
LFS_POINTER = b"version https://git-lfs.github.com/spec/"


def fetch(reference: str) -> Path:
    """Find the local file of a path or of `hf://owner/repository/path/in/it[@revision]`, which the hub downloads and
    caches.

    Raises: CheckpointError for a missing file, a reference of another form, or a hub that does not answer.
    """
    if not reference.startswith(HUB_SCHEME):
        path = Path(reference)
        if not path.is_file():
            raise CheckpointError(f"{reference}: no such file. Give a path, or {HUB_SCHEME}owner/repository/file.pth")
        return path
    name, _, revision = reference.removeprefix(HUB_SCHEME).partition("@")
    parts = name.split("/", 2)
    if len(parts) != 3 or {"", ".", ".."} & set(name.split("/")):
        raise CheckpointError(
            f"{reference}: not a hub reference; write {HUB_SCHEME}owner/repository/path/file.pth[@revision]"
        )
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(f"{parts[0]}/{parts[1]}", parts[2], revision=revision or None))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise CheckpointError(
            f"{reference}: cannot be downloaded ({type(error).__name__}). Check the name and the network, or download"
            " it elsewhere and give its path."
        ) from error


def read(reference: str) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint file, under the names in the file.

    Raises: CheckpointError when the file is of another kind, a Git LFS pointer or damaged, or holds anything but
        tensors, or values that are not finite.
    """
    path = fetch(reference)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise CheckpointError(
            f"{path.name}: cannot read {path.suffix or 'no suffix'}; it must be {', '.join(SUFFIXES)}."
        )
    if _is_lfs_pointer(path):
        raise CheckpointError(
            f"{path.name}: a Git LFS pointer, the text that stands in for the file of weights. Fetch the file itself:"
            " git lfs pull, in the repository that it comes from."
        )
    if suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            tensors = load_file(path)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path.name}: not a readable safetensors file ({error}). Fetch it again.") from error
        check_finite(tensors, path.name)
        return tensors
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged or hostile pickle
        raise CheckpointError(
            f"{path.name}: not a readable weights-only checkpoint ({type(error).__name__}). Fetch it again, or convert"
            " it to .safetensors where you trust it."
        ) from error
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise CheckpointError(
            f"{path.name}: holds no plain dictionary of tensors (wrapped in one of {WRAPPERS} at most)."
        )
    tensors = {str(key): value for key, value in content.items()}
    check_finite(tensors, path.name)
    return tensors


def _is_lfs_pointer(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(LFS_POINTER)) == LFS_POINTER
    except OSError:
        return False  # whoever reads it says why it cannot be read
