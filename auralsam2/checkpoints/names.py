"""The names of tensors in every form that files are found in, brought to today's."""

import re
from collections.abc import Mapping

from torch import Tensor

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
