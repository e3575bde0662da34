"""Released checkpoints, in every form they are found in, brought to one set of names and checked key by key.

Forms: the whole network (`v_model.*`, `aural_fuser.*`); the fuser alone (`vgg.*`, `f_blocks.*`, ...); older files that
say `audio_prompter.*` with names counted from 1 and hold every layer twice more under `training_layers` and
`finetuning_layers`. Files: .pth / .pt (read with weights_only=True) and .safetensors, from a path or the Hugging Face
hub.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from auralsam2.errors import CheckpointError

if TYPE_CHECKING:
    from auralsam2.model import AuralSAM2

HUB_SCHEME = "hf://"
WRAPPERS = ("model", "state_dict", "model_state_dict")
SUFFIXES = (".pth", ".pt", ".safetensors")
MAX_KEYS_NAMED = 8
_DROPPED = re.compile(r"(^|\.)(training_layers|finetuning_layers)\.")
# Released now : named by older files, where the number counts from 1.
_OLD_NAMES = {
    "train_f_patch_embed": "patch_embeds",
    "train_f_a_block": "fusion_modules",
    "train_f_block": "f_blocks",
    "train_a_block": "a_blocks",
    "train_smooth": "smooth_convs",
}
_OLD_KEY = re.compile(rf"^({'|'.join(_OLD_NAMES)})(\d+)\.")


def fetch(reference: str) -> Path:
    """The local file of a path or of `hf://owner/repository/path/in/it[@revision]`, downloaded and cached by the hub.

    Raises: CheckpointError for a missing file, a reference of another form, or a hub that does not answer.
    """
    if not reference.startswith(HUB_SCHEME):
        path = Path(reference)
        if not path.is_file():
            raise CheckpointError(f"{reference}: no such file. Give a path, or {HUB_SCHEME}owner/repository/file.pth")
        return path
    name, _, revision = reference.removeprefix(HUB_SCHEME).partition("@")
    parts = name.split("/", 2)
    if len(parts) != 3 or not all(parts):
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
    """The tensors of a checkpoint file, under the names in the file.

    Raises: CheckpointError when the file is of another kind, is damaged, or holds anything but tensors.
    """
    path = fetch(reference)
    if path.suffix not in SUFFIXES:
        raise CheckpointError(
            f"{path.name}: cannot read {path.suffix or 'no suffix'}; it must be {', '.join(SUFFIXES)}."
        )
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path.name}: not a readable safetensors file ({error}). Fetch it again.") from error
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
    return {str(key): value for key, value in content.items()}


def _current_fuser_name(key: str) -> str:
    match = _OLD_KEY.match(key)
    if match is None:
        return key
    return f"{_OLD_NAMES[match[1]]}.{int(match[2]) - 1}.{key[match.end() :]}"


def current_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` under today's names: `v_model.*` and `aural_fuser.*`; duplicates of older files are dropped."""
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        name = key.removeprefix("module.")
        if _DROPPED.search(name):
            continue
        for prefix in ("audio_prompter.", "aural_fuser."):
            name = name.removeprefix(prefix)
        renamed[name if name.startswith("v_model.") else f"aural_fuser.{_current_fuser_name(name)}"] = value
    return renamed


def is_whole(state: Mapping[str, Tensor]) -> bool:
    """Whether `state` holds SAM2's part as well as the fuser's."""
    return any(key.startswith("v_model.") for key in current_names(state))


def _listed(keys: Iterable[str]) -> str:
    names = sorted(keys)
    more = f" and {len(names) - MAX_KEYS_NAMED} more" if len(names) > MAX_KEYS_NAMED else ""
    return ", ".join(names[:MAX_KEYS_NAMED]) + more


def load_strictly(module: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Load every key of `state` into `module`, all of them or none.

    Raises: CheckpointError naming missing, unexpected and misshapen keys.
    """
    wanted = module.state_dict()
    # Older PyTorch wrote no batch counters; evaluation never reads them.
    missing = [k for k in wanted if k not in state and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in state if k not in wanted]
    misshapen = [
        f"{k} is {list(state[k].shape)}, must be {list(wanted[k].shape)}"
        for k in wanted
        if k in state and state[k].shape != wanted[k].shape
    ]
    problems = [
        f"{len(keys)} {kind}: {_listed(keys)}"
        for kind, keys in (("missing", missing), ("unexpected", unexpected), ("misshapen", misshapen))
        if keys
    ]
    if problems:
        raise CheckpointError(f"{what} does not fit. {'; '.join(problems)}. Is it a checkpoint of another preset?")
    module.load_state_dict(dict(state), strict=False)


def load_into(model: "AuralSAM2", state: Mapping[str, Tensor]) -> None:
    """Load a released file's tensors into `model`: the whole network, or `aural_fuser` where that is all it holds."""
    named = current_names(state)
    if is_whole(state):
        load_strictly(model, named, f"the checkpoint (whole network, preset {model.preset.name})")
        return
    fuser = {key.removeprefix("aural_fuser."): value for key, value in named.items()}
    load_strictly(
        model.get_submodule("aural_fuser"), fuser, f"the checkpoint (fuser alone, preset {model.preset.name})"
    )


def load_sam2(model: "AuralSAM2", state: Mapping[str, Tensor]) -> None:
    """Load SAM2's own checkpoint (`sam2_hiera_*.pt`, names without prefix) under a fuser-only AuralSAM2 file."""
    load_strictly(model.get_submodule("v_model"), state, f"the SAM2 checkpoint (preset {model.preset.name})")


def load_vggish(model: "AuralSAM2", state: Mapping[str, Tensor]) -> None:
    """Load VGGish alone (`vggish-10086976.pth`); its post-processing matrices (`pproc.*`) are not used."""
    kept = {key: value for key, value in state.items() if not key.startswith("pproc.")}
    load_strictly(model.get_submodule("aural_fuser.vgg"), kept, "the VGGish checkpoint")
