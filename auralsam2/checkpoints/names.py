"""The names of tensors in every form that files are found in, brought to today's."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from auralsam2.checkpoints.layer_lists import LISTED, part_names
from auralsam2.errors import CheckpointError

MAX_KEYS_NAMED = 8
SAM2, FUSER, TEXT_MODEL = "v_model.", "aural_fuser.", "t_model."
# Of DistributedDataParallel, torch.compile, FSDP, activation checkpointing and Lightning around the whole, and of all
# but the last inside it as well.
_WRAPPERS = "module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module"
_AROUND = re.compile(rf"^(?:(?:{_WRAPPERS}|model)\.)+")
_INSIDE = re.compile(rf"(?<=\.)(?:(?:{_WRAPPERS})\.)+")
# How many steps torch's AveragedModel has averaged: a number beside its weights.
_AVERAGED = "n_averaged"
PREFIXES_KNOWN = "Known are module., _orig_mod. and model.; take any other off the names in the file."
# Released now : named by older files, where the number counts from 1.
_OLD_NAMES = {
    "train_f_patch_embed": "patch_embeds",
    "train_f_a_block": "fusion_modules",
    "train_f_block": "f_blocks",
    "train_a_block": "a_blocks",
    "train_smooth": "smooth_convs",
}
_OLD_KEY = re.compile(rf"^({'|'.join(_OLD_NAMES)})(\d+)\.")
# No network lacks one of these: where they have their names, a list of layers only repeats them.
_PARTS = ("vgg", *_OLD_NAMES.values())


# What the owners' names, or those of the fuser's parts, stand behind, where that is no wrapper that is known.
_OWNERS = r"(?:v_model|aural_fuser|audio_prompter|t_model)\."
_OF_FUSER = rf"(?:vgg\.|(?:{'|'.join(_PARTS[1:])})\.\d|(?:{'|'.join(_OLD_NAMES)})\d|(?:training|finetuning)_layers\.\d)"
_FOREIGN = re.compile(rf"^(?!{_OWNERS}|{_OF_FUSER})(.+?\.)(?:{_OWNERS}|{_OF_FUSER})")
_FUSER_KEY = re.compile(rf"^{FUSER}{_OF_FUSER}")
# How SAM2's own file and VGGish's begin their names.
_ALONE = {
    "image_encoder.": "SAM2's own weights and no fuser; give AuralSAM2's as checkpoint, and this file with"
    " --sam2-checkpoint",
    "features.0.": "VGGish alone, which is a part of AuralSAM2's weights; give those",
}


@dataclass(frozen=True)
class Named:
    """The tensors of a file, sorted by what reads them."""

    network: dict[str, Tensor]
    """`v_model.*` and `aural_fuser.*`."""
    text_model: dict[str, Tensor]
    """The language model of whole Ref-AVS files, under its own names."""
    differing: tuple[str, ...]
    """Keys of listed layers that are not what stands under the layer's own name, or whose layer is not known."""


def join_keys(keys: Iterable[str], separator: str = ", ") -> str:
    """Name the first of `keys` in one line, and how many more there are."""
    names = sorted(keys)
    more = f" and {len(names) - MAX_KEYS_NAMED} more" if len(names) > MAX_KEYS_NAMED else ""
    return separator.join(names[:MAX_KEYS_NAMED]) + more


def strip_wrappers(key: str) -> str:
    """Strip from `key` the names that wrappers of modules put around it: `module.`, `_orig_mod.`, `model.`."""
    return _INSIDE.sub("", _AROUND.sub("", key))


def without_wrappers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Strip wrappers from the keys of `state`, and leave out the count of an average of weights.

    Raises: CheckpointError when two keys become one and differ.
    """
    renamed = _renamed(state, strip_wrappers)
    return {key: value for key, value in renamed.items() if key != _AVERAGED}


def sort_out(state: Mapping[str, Tensor]) -> Named:
    """Bring the tensors of a file to today's names, and keep apart what is not the network's.

    A part of the fuser that has its own name is taken from there, and what the lists of older files hold of it is a
    duplicate; a part that only the lists hold is taken from them.

    Raises: CheckpointError when a list that is needed is in no known order, two keys become one and differ, or names
        have a prefix that is no known wrapper's.
    """
    bare = without_wrappers(state)
    foreign = {match[1] for match in map(_FOREIGN.match, bare) if match is not None}
    if foreign:
        raise CheckpointError(
            f"the checkpoint's names carry a prefix that is not known: {join_keys(map(repr, foreign))}."
            f" {PREFIXES_KNOWN}"
        )
    text_model = {key.removeprefix(TEXT_MODEL): value for key, value in bare.items() if key.startswith(TEXT_MODEL)}
    sam2 = {key: value for key, value in bare.items() if key.startswith(SAM2)}
    rest = {key: value for key, value in bare.items() if not key.startswith((SAM2, TEXT_MODEL))}
    everything = _renamed(rest, _in_the_fuser)
    in_lists = {key: value for key, value in everything.items() if LISTED.match(key)}
    fuser = _renamed({key: value for key, value in everything.items() if key not in in_lists}, _current_fuser_name)
    filled, differing = _with_listed(fuser, in_lists)
    return Named(sam2 | {FUSER + key: value for key, value in filled.items()}, text_model, differing)


def current_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the network's tensors in `state` under today's names, `v_model.*` and `aural_fuser.*`; see `sort_out`."""
    return sort_out(state).network


def text_model(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Pick the language model (DistilRoBERTa) of whole Ref-AVS files, `t_model.*`, under its own names, or {}."""
    return sort_out(state).text_model


def is_whole(state: Mapping[str, Tensor]) -> bool:
    """Tell whether `state` holds SAM2's part as well as the fuser's."""
    return any(strip_wrappers(key).startswith(SAM2) for key in state)


def lacks(state: Mapping[str, Tensor]) -> str | None:
    """Tell why `state` is no whole network, in words that follow the file's name; None where it is one."""
    if is_whole(state):
        return None
    names = current_names(state)
    if any(key.startswith(f"{FUSER}decoder.") for key in names):
        return (
            "holds adapters without the SAM2 that they lie on; give its weights too, with --sam2-checkpoint (of those"
            " that are shipped: compact.safetensors)."
        )
    if any(_FUSER_KEY.match(key) for key in names):
        return "holds the fuser alone; give SAM2's own weights too, with --sam2-checkpoint."
    bare = [key.removeprefix(FUSER) for key in names]
    for start, what in _ALONE.items():
        if any(key.startswith(start) for key in bare):
            return f"holds {what}."
    return f"holds no tensor of AuralSAM2; its names are such as {join_keys(bare[:3]) or 'none'}."


def reads_text(state: Mapping[str, Tensor]) -> bool:
    """Tell whether `state` is of the Ref-AVS form, whose network is built with text=True."""
    return any(key.startswith(f"{FUSER}text_proj.") for key in current_names(state))


def _renamed(state: Mapping[str, Tensor], rename: Callable[[str], str]) -> dict[str, Tensor]:
    renamed: dict[str, Tensor] = {}
    sources: dict[str, str] = {}
    for key, value in state.items():
        name = rename(key)
        if name in renamed and not _same(renamed[name], value):
            raise CheckpointError(
                f"the checkpoint holds {name} twice, as {sources[name]} and as {key}, and they differ. Keep one of the"
                " two in the file."
            )
        renamed[name], sources[name] = value, key
    return renamed


def _in_the_fuser(key: str) -> str:
    return key.removeprefix("audio_prompter.").removeprefix(FUSER)


def _current_fuser_name(key: str) -> str:
    match = _OLD_KEY.match(key)
    if match is None:
        return key
    return f"{_OLD_NAMES[match[1]]}.{int(match[2]) - 1}.{key[match.end() :]}"


def _with_listed(fuser: dict[str, Tensor], listed: dict[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The fuser, filled up from the lists of older files, and the keys of duplicates that differ."""
    if not listed:
        return fuser, ()
    own = {_part(key) for key in fuser}
    try:
        parts = part_names(listed)
    except CheckpointError:
        if all(any(part.partition(".")[0] == wanted for part in own) for wanted in _PARTS):
            return fuser, tuple(listed)
        raise
    renamed = _renamed(listed, partial(_listed_name, parts))
    filled = {key: value for key, value in renamed.items() if _part(key) not in own}
    differing = [
        key
        for key, value in listed.items()
        if (name := _listed_name(parts, key)) not in filled and (name not in fuser or not _same(fuser[name], value))
    ]
    return fuser | filled, tuple(differing)


def _part(key: str) -> str:
    """`f_blocks.1` of `f_blocks.1.0.norm1.weight`, `vgg` of `vgg.features.0.weight`."""
    first, _, rest = key.partition(".")
    return f"{first}.{rest.partition('.')[0]}" if first in _OLD_NAMES.values() else first


def _listed_name(parts: Mapping[str, str], key: str) -> str:
    match = LISTED.match(key)
    assert match is not None, key
    return f"{parts[match[0].rstrip('.')]}.{key[match.end() :]}"


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype and torch.equal(one, other)
