"""The forms in which released checkpoints are found, made of one network's weights, and a check of what was loaded."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from auralsam2 import AuralSAM2

State = dict[str, Tensor]
FUSER = "aural_fuser."


def fuser_alone(state: State) -> State:
    return {key.removeprefix(FUSER): value for key, value in state.items() if key.startswith(FUSER)}


def older(state: State) -> State:
    """As older files have it: `audio_prompter`, counted from 1, every fuser layer twice more."""
    names = {
        "patch_embeds": "train_f_patch_embed",
        "f_blocks": "train_f_block",
        "a_blocks": "train_a_block",
        "fusion_modules": "train_f_a_block",
        "smooth_convs": "train_smooth",
    }
    renamed: State = {}
    for key, value in state.items():
        if not key.startswith(FUSER):
            renamed[key] = value
            continue
        first, *rest = key.removeprefix(FUSER).split(".")
        if first in names:
            first, rest = f"{names[first]}{int(rest[0]) + 1}", rest[1:]
        name = ".".join([first, *rest])
        renamed[f"audio_prompter.{name}"] = value
        for copies in ("training_layers", "finetuning_layers"):
            renamed[f"audio_prompter.{copies}.0.{name}"] = torch.full_like(value, 9)
    return renamed


# As the release's conversion of such files reads `training_layers`; VGGish is `finetuning_layers.0`.
LIST = (
    *("patch_embeds.0", "patch_embeds.1", "patch_embeds.2"),
    *("f_blocks.0", "a_blocks.0", "fusion_modules.0"),
    *("f_blocks.1", "a_blocks.1", "fusion_modules.1"),
    *("f_blocks.2", "a_blocks.2", "fusion_modules.2"),
    *("smooth_convs.0", "smooth_convs.1", "train_proj_v1", "train_proj_a1", "text_proj"),
)


def in_lists(state: State, order: Sequence[str] = LIST, owner: str = FUSER) -> State:
    """As older files have it that name the fuser's layers by their place in a list alone."""
    places = {f"{part}.": f"training_layers.{number}." for number, part in enumerate(order)}
    places["vgg."] = "finetuning_layers.0."
    renamed: State = {}
    for key, value in state.items():
        name = key.removeprefix(FUSER)
        part = next((part for part in places if key != name and name.startswith(part)), None)
        renamed[key if part is None else f"{owner}{places[part]}{name.removeprefix(part)}"] = value
    return renamed


def with_lists(state: State) -> State:
    """As older files have it that hold the fuser's layers under their names and in lists."""
    return state | in_lists(state)


def prefixed(state: State) -> State:
    return {f"module.{key}": value for key, value in state.items()}


def wrapped(*prefixes: str) -> Callable[[State], State]:
    return lambda state: {"".join(prefixes) + key: value for key, value in state.items()}


def without_text_model(state: State) -> State:
    return {key: value for key, value in state.items() if not key.startswith("t_model.")}


def assert_loaded(model: AuralSAM2, filled: State, prefix: str = "") -> None:
    for key, value in model.state_dict().items():
        wanted = filled[key] if key.startswith(prefix) else torch.zeros_like(value)
        assert torch.equal(value, wanted), key


def assert_same(read: State, written: State) -> None:
    assert read.keys() == written.keys()
    for key, value in written.items():
        assert torch.equal(read[key], value), key
