"""The lists in which older files hold the fuser's layers: `training_layers.N.*`, and VGGish as `finetuning_layers.0.*`.

A list says no names, so a layer is known by its place, and the place is believed only where what stands there is of the
right kind. Shapes alone cannot tell: the third patch embedding and both smoothing convolutions are alike, and so are
the visual blocks of stage 1 and the sound's. Order: the release's own conversion of such files, stage by stage; the
other one is that in which its fuser declares its parts. Of several layers of one kind the order is that of the stages.
"""

import re
from collections.abc import Mapping, Sequence

from torch import Tensor

from auralsam2.errors import CheckpointError

VGGISH = "vgg"
LISTED = re.compile(r"^(training_layers|finetuning_layers)\.(\d+)\.")
_TRAINED = "training_layers"

_PATCHES = ("patch_embeds.0", "patch_embeds.1", "patch_embeds.2")
_SMOOTHING = ("smooth_convs.0", "smooth_convs.1")
_BY_STAGE = tuple(f"{part}.{stage}" for stage in range(3) for part in ("f_blocks", "a_blocks", "fusion_modules"))
_BY_PART = tuple(f"{part}.{stage}" for part in ("f_blocks", "a_blocks", "fusion_modules") for stage in range(3))
# What trains alone, and what Ref-AVS alone has, ends a list.
_ENDINGS: tuple[tuple[str, ...], ...] = (
    (),
    ("train_proj_v1", "train_proj_a1"),
    ("train_proj_v1", "train_proj_a1", "text_proj"),
    ("text_proj",),
)
_ORDERS = tuple((*_PATCHES, *layers, *_SMOOTHING, *ending) for layers in (_BY_STAGE, _BY_PART) for ending in _ENDINGS)
_KINDS = {
    "patch_embeds.0": "convolution 4 x 4",
    "patch_embeds.1": "convolution 2 x 2",
    "patch_embeds.2": "convolution 1 x 1",
    "smooth_convs": "convolution 1 x 1",
    "f_blocks": "attention blocks",
    "a_blocks": "attention blocks",
    "fusion_modules": "audio-visual fusion",
    "train_proj_v1": "contrastive head",
    "train_proj_a1": "contrastive head",
    "text_proj": "text projection",
}
_BLOCK_KEY = re.compile(r"^(\d+)\.(?:norm1|attn|norm2|mlp)\.")

Layer = dict[str, Tensor]


def part_names(listed: Mapping[str, Tensor]) -> dict[str, str]:
    """Tell which part of the fuser each listed layer is: `training_layers.5` -> `fusion_modules.0`.

    Args:
        listed: keys that match LISTED.
    Raises: CheckpointError that names what stands where, when the list is in no order that is known.
    """
    layers: dict[str, dict[int, Layer]] = {}
    for key, value in listed.items():
        match = LISTED.match(key)
        assert match is not None, key
        layers.setdefault(match[1], {}).setdefault(int(match[2]), {})[key[match.end() :]] = value
    trained = layers.pop(_TRAINED, {})
    tuned = layers.get("finetuning_layers", {})
    if tuned.keys() - {0}:
        raise CheckpointError(
            f"the checkpoint lists finetuning_layers.{max(tuned)}; known is finetuning_layers.0, VGGish. Convert the"
            " file to the released names first."
        )
    named = {"finetuning_layers.0": VGGISH} if tuned else {}
    if trained:
        numbers = sorted(trained)
        parts = _in_order([trained[number] for number in numbers], numbers)
        named |= {f"{_TRAINED}.{number}": part for number, part in zip(numbers, parts, strict=True)}
    return named


def _in_order(layers: Sequence[Layer], numbers: Sequence[int]) -> tuple[str, ...]:
    kinds = [_kind(layer) for layer in layers]
    for order in _ORDERS:
        if kinds == [_KINDS.get(part) or _KINDS[part.partition(".")[0]] for part in order]:
            depths = {len(_blocks(layer)) for layer, part in zip(layers, order, strict=True) if "a_blocks" in part}
            # The sound's blocks are as many in every stage, the picture's are not: the two were not exchanged.
            if len(depths) == 1:
                return order
    found = ", ".join(f"{number}: {kind}" for number, kind in zip(numbers, kinds, strict=True))
    raise CheckpointError(
        f"the checkpoint names its layers by their place in {_TRAINED} alone, in no order that is known, so which layer"
        f" is which would be a guess ({found}). Convert the file to the released names first."
    )


def _blocks(layer: Layer) -> set[str]:
    return {match[1] for match in map(_BLOCK_KEY.match, layer) if match is not None}


def _kind(layer: Layer) -> str:
    """What a layer is, by the names of its tensors and their ranks; of a convolution, the size of its kernel too."""
    weight = layer.get("weight")
    if layer.keys() == {"weight", "bias"} and weight is not None and weight.ndim == 4:
        return f"convolution {weight.shape[2]} x {weight.shape[3]}"
    if all(_BLOCK_KEY.match(key) for key in layer):
        return "attention blocks"
    if {"q_frame.weight", "k_audio.weight", "W_z.1.weight", "W_z2.1.weight"} <= layer.keys():
        return "audio-visual fusion"
    if all(key.startswith("proj.") for key in layer):
        return "contrastive head"
    if layer.keys() == {"0.weight", "0.bias", "2.weight", "2.bias"} and layer["0.weight"].ndim == 2:
        return "text projection"
    return f"unknown ({', '.join(sorted(layer)[:3])})"
