"""Files of weights, read by what they are and not by their names; from a path or the Hugging Face hub.

What `torch.save` wrote is read with weights_only=True: a pickle runs no code.
"""

import logging
import pickle
import re
import struct
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from auralsam2.checkpoints.finite import check_finite
from auralsam2.checkpoints.kinds import kind_of
from auralsam2.checkpoints.names import join_keys
from auralsam2.errors import CheckpointError

HUB_SCHEME = "hf://"
# Under which training scripts store the weights beside other things, in the order in which one of several is taken.
WRAPPERS = (
    *("model", "state_dict", "model_state_dict", "module"),
    *("ema", "ema_state_dict", "state_dict_ema", "model_ema"),
)
_WEB_ADDRESS = re.compile(
    r"^https?://(?:www\.)?(?:huggingface\.co|hf\.co)/([^/]+/[^/]+)/(?:resolve|blob|raw)/([^/]+)/(.+)$"
)
# What looking into a damaged pickle raises.
_DAMAGED = (
    *(pickle.UnpicklingError, struct.error, OSError, EOFError, RuntimeError),
    *(ValueError, LookupError, TypeError, AttributeError),
)


class _HubFile(NamedTuple):
    repository: str
    path: str
    revision: str | None


def check(*references: str | None) -> None:
    """Refuse files that are no weights, by their first bytes, before anything long begins; the hub is not asked.

    Args:
        references: as `fetch` takes them; None is none.
    Raises: CheckpointError for a missing file, one that is something else, or a reference of another form.
    """
    for reference in references:
        if reference is not None and _on_the_hub(reference) is None:
            kind_of(fetch(reference))


def fetch(reference: str) -> Path:
    """Find the local file of a path or of `hf://owner/repository/path/in/it[@revision]`, which the hub downloads and
    caches.

    Raises: CheckpointError for a missing file, a reference of another form, or a hub that does not answer.
    """
    asked = _on_the_hub(reference)
    if asked is None:
        return _local(reference)
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    # It tells of each of its tries; what came of them is said here, once.
    log = logging.getLogger("huggingface_hub")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        return Path(hf_hub_download(asked.repository, asked.path, revision=asked.revision))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise CheckpointError(
            f"{reference}: cannot be downloaded ({type(error).__name__}). Check the name and the network, or download"
            " it elsewhere and give its path."
        ) from error
    finally:
        log.setLevel(level)


def _local(reference: str) -> Path:
    path = Path(reference)
    if path.is_file():
        return path
    if path.is_dir():
        raise CheckpointError(f"{reference}: a folder. Give the file of weights that is in it.")
    if path.is_symlink():
        raise CheckpointError(f"{reference}: a link to a file that is not there. Fetch that file, or give its path.")
    raise CheckpointError(f"{reference}: no such file. Give a path, or {HUB_SCHEME}owner/repository/file.pth")


def _on_the_hub(reference: str) -> _HubFile | None:
    """What a reference names on the hub; None for a path. Raises: CheckpointError for a reference of another form."""
    web = _WEB_ADDRESS.match(reference)
    if web is not None:
        at = "" if web[2] == "main" else f"@{web[2]}"
        raise CheckpointError(
            f"{reference}: an address of the web; write {HUB_SCHEME}{web[1]}/{web[3].partition('?')[0]}{at}"
        )
    if re.match(r"https?:", reference):
        raise CheckpointError(f"{reference}: an address of the web. Download the file, and give its path.")
    if not re.match(r"hf:", reference, re.IGNORECASE):
        return None
    name, _, revision = reference.removeprefix(HUB_SCHEME).partition("@")
    parts = name.split("/", 2)
    if not reference.startswith(HUB_SCHEME) or len(parts) != 3 or {"", ".", ".."} & set(name.split("/")):
        raise CheckpointError(
            f"{reference}: not a hub reference; write {HUB_SCHEME}owner/repository/path/file.pth[@revision]"
        )
    return _HubFile(f"{parts[0]}/{parts[1]}", parts[2], revision or None)


def read(reference: str) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint file, under the names in the file.

    Raises: CheckpointError when the file is of another kind, a Git LFS pointer or damaged, or holds anything but
        tensors, or values that are not finite.
    """
    path = fetch(reference)
    tensors = _read_safetensors(path) if kind_of(path) == "safetensors" else _read_torch(path)
    check_finite(tensors, path.name)
    return tensors


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path.name}: not a readable safetensors file ({error}). Fetch it again.") from error


def load_torch(path: Path) -> Any:
    """Load what `torch.save` wrote, and run no code of it.

    Raises: CheckpointError when it is something else, damaged, or needs code to be read.
    """
    if kind_of(path) != "torch":
        raise CheckpointError(f"{path.name}: a safetensors file, where one of torch.save is wanted.")
    try:
        # Opened here: of a path torch believes the suffix.
        with path.open("rb") as file:
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged or hostile pickle
        code = _code_in(path)
        if code:
            raise CheckpointError(
                f"{path.name}: not a readable weights-only checkpoint: it needs code, which is not run"
                f" ({join_keys(code)}). Where you trust it, store its tensors alone, or convert it to .safetensors."
            ) from error
        raise CheckpointError(
            f"{path.name}: not a readable weights-only checkpoint ({type(error).__name__}): damaged, or a pickle that"
            " needs code, which is not run. Fetch it again, or convert it to .safetensors where you trust it."
        ) from error


def _code_in(path: Path) -> list[str]:
    """What an archive of `torch.save` would call to be read, beyond what tensors need; none where it cannot be told."""
    try:
        return list(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except _DAMAGED:  # or no archive
        return []


def _read_torch(path: Path) -> dict[str, Tensor]:
    content = load_torch(path)
    while (inner := _wrapped(content)) is not None:
        content = inner
    if not isinstance(content, dict):
        raise CheckpointError(f"{path.name}: holds no plain dictionary of tensors, but {_told(content)}.")
    others = [f"{key} ({_told(value)})" for key, value in content.items() if not isinstance(value, Tensor)]
    if others or not content:
        raise CheckpointError(
            f"{path.name}: holds no plain dictionary of tensors (under one of {', '.join(WRAPPERS)} at most), but"
            f" {join_keys(others) or 'nothing'}. Store the tensors alone."
        )
    return {str(key): value for key, value in content.items()}


def _wrapped(content: object) -> object:
    """What lies under the first of WRAPPERS under which `content` has tensors, or None."""
    if not isinstance(content, dict):
        return None
    return next((content[name] for name in WRAPPERS if _holds_tensors(content.get(name))), None)


def _holds_tensors(content: object) -> bool:
    return isinstance(content, dict) and any(isinstance(v, Tensor) or _holds_tensors(v) for v in content.values())


def _told(value: object) -> str:
    return f"a {type(value).__name__}"
