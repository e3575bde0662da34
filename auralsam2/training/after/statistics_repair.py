"""Estimate batch norm statistics that a weight file lost: `python -m auralsam2.training.after.statistics_repair`.

A running variance above 65504 is infinite in float16. Such a channel divides by infinity: it gives its bias, whatever
it reads, and no loss, test or figure says so. The statistics are functions of the other weights and of the data, so
they can be measured: mean and variance of what reaches the layer, pooled over all tokens and frames of training clips.
Stages are mended in the order in which the network runs them, for a later one reads what an earlier one gives.
"""

import argparse
from collections.abc import Callable, Iterable
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from torch import Tensor, nn

from auralsam2 import checkpoints
from auralsam2.errors import CheckpointError, TrainingError
from auralsam2.model.aural_sam2 import AuralSAM2
from auralsam2.network import image_encoder
from auralsam2.network.log_mel import LogMel
from auralsam2.training.examples.clips import Source, procedural
from auralsam2.training.run_folder import save_weights

MEAN, VARIANCE = "running_mean", "running_var"
NUM_CLIPS, NUM_FRAMES, SEED = 400, 5, 0
_FUSION = "aural_fuser.fusion_modules."


class Moments:
    """Mean and variance of each channel of what reaches a layer, summed in float64."""

    def __init__(self, num_channels: int) -> None:
        self._sums = torch.zeros(2, num_channels, dtype=torch.float64)
        self._count = 0

    def add(self, x: Tensor) -> None:
        """Add the values of x, [N, C, ...]."""
        rows = x.transpose(0, 1).flatten(1).double()
        self._sums += torch.stack([rows.sum(1), (rows * rows).sum(1)])
        self._count += rows.shape[1]

    def mean_and_variance(self) -> tuple[Tensor, Tensor]:
        """Compute mean and variance, [C] float32 each. Raises TrainingError when fewer than two values passed."""
        if self._count < 2:
            raise TrainingError(f"{self._count} values reached the layer; a variance needs two. Give more clips.")
        mean, squares = self._sums / self._count
        return mean.float(), (squares - mean**2).clamp(min=0).float()


def broken_layers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Find the fusion's batch norms whose statistics are not finite, in the order in which the network runs them.

    Args:
        state: a whole network, under released names.
    Returns: by the layer's name, [C] bool: the channels whose mean or variance is not finite.
    Raises: CheckpointError when any other value is not finite; no data brings that back.
    """
    found: dict[str, Tensor] = {}
    for key, value in state.items():
        lost = ~value.isfinite()
        if not lost.any():
            continue
        layer, _, name = key.rpartition(".")
        if name not in (MEAN, VARIANCE) or not layer.startswith(_FUSION):
            raise CheckpointError(
                f"{key}: {int(lost.sum())} of {lost.numel()} values are not finite. Only batch norm statistics of the"
                " fusion can be estimated; train this network again."
            )
        found[layer] = found.get(layer, torch.zeros_like(lost)) | lost
    return dict(sorted(found.items()))


class Encoded(NamedTuple):
    """What the fuser reads of one clip; none of it depends on the fusion's statistics."""

    patches: tuple[Tensor, Tensor, Tensor]
    """Each [T, C, S/16, S/16]."""
    tokens: Tensor
    """[T, C]."""


@torch.no_grad()
def encode(model: AuralSAM2, source: Source, num_clips: int) -> list[Encoded]:
    """Encode clips 0 to `num_clips` - 1 of `source`, about 2 MB each."""
    log_mel, fuser, found = LogMel(), model.aural_fuser, list[Encoded]()
    position = image_encoder.position_embedding(model.v_model.image_encoder.trunk, model.image_size)
    for number in range(num_clips):
        example = source(number, NUM_FRAMES)
        frames = image_encoder.normalise(torch.from_numpy(example.frames))
        maps = image_encoder.pyramid(model.v_model, frames, position)
        one, two, three = (fuser.patches(level, fpn_map) for level, fpn_map in enumerate(maps))
        found.append(Encoded((one, two, three), fuser.tokens(log_mel(torch.from_numpy(example.windows)))))
    return found


@torch.no_grad()
def estimate(model: AuralSAM2, layers: Iterable[str], clips: list[Encoded]) -> dict[str, tuple[Tensor, Tensor]]:
    """Measure mean and variance, [C] float32 each, of what reaches each of `layers` on all the clips together."""
    moments, hooks = dict[str, Moments](), []
    for layer in layers:
        norm = model.get_submodule(layer)
        assert isinstance(norm, nn.BatchNorm1d | nn.BatchNorm3d)
        moments[layer] = Moments(norm.num_features)
        hooks.append(norm.register_forward_pre_hook(_adder(moments[layer])))
    for clip in clips:
        model.aural_fuser(clip.patches, clip.tokens)
    for hook in hooks:
        hook.remove()
    return {layer: found.mean_and_variance() for layer, found in moments.items()}


def _adder(moments: Moments) -> Any:
    def add(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        moments.add(inputs[0])

    return add


def repair(
    state: dict[str, Tensor],
    model: AuralSAM2,
    source: Source,
    num_clips: int = NUM_CLIPS,
    report: Callable[[str], None] = lambda line: None,
) -> dict[str, Tensor]:
    """Make the statistics of `state` whole: float32 in the layers that had lost any; all else as it is.

    Args:
        state: a whole network of the model's preset, under released names.
        model: is loaded with what comes back.
        source: of clips of the model's size.
        report: called with a line for each layer.
    Returns: the mended state; `state` itself is not changed.
    Raises: CheckpointError when something else is broken, or `state` does not fit; TrainingError without clips.
    """
    broken = broken_layers(state)
    if not broken:
        model.load_released(state)
        return dict(state)
    mended = dict(state)
    for layer, channels in broken.items():  # stand-ins; whole before a later stage is measured
        mended[f"{layer}.{MEAN}"] = torch.zeros(channels.shape)
        mended[f"{layer}.{VARIANCE}"] = torch.ones(channels.shape)
    model.load_released(mended)
    clips = encode(model, source, num_clips)
    for _, layers in groupby(broken, _stage):
        for layer, (mean, variance) in estimate(model, layers, clips).items():
            mended |= {f"{layer}.{MEAN}": mean, f"{layer}.{VARIANCE}": variance}
            lost, largest = int(broken[layer].sum()), float(variance.max())
            report(f"{layer}: {lost} of {len(variance)} channels were lost; the largest variance is {largest:.4g}")
        model.load_released(mended)
    return mended


def _stage(layer: str) -> str:
    return layer.removeprefix(_FUSION).partition(".")[0]


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m auralsam2.training.after.statistics_repair", description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="whole weights of `compact`, .safetensors")
    parser.add_argument("--out", type=Path, required=True, help="the file to write")
    parser.add_argument(
        "--clips", type=int, default=NUM_CLIPS, help="clips that the statistics are of; default: %(default)s"
    )
    given = parser.parse_args()
    checkpoints.check(str(given.checkpoint))
    # Read as it is: reading weights to be used may refuse such a file.
    with safe_open(given.checkpoint, "pt") as file:
        about = dict(file.metadata() or {})
        state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118, not a dictionary
    model = AuralSAM2.from_preset("compact")
    mended = repair(state, model, procedural(SEED, model.image_size), given.clips, lambda line: print(line, flush=True))
    written = save_weights(given.out, mended, about | {"statistics_from_clips": str(given.clips)}, half=True)
    print(f"weights    {written}")


if __name__ == "__main__":
    main()
