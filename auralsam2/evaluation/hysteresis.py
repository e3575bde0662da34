"""What rounding does to a memory of yes and no: `python -m auralsam2.evaluation.hysteresis`, on held-out clips.

The memory of a frame is made of a binary mask, so a logit that rounding carries over zero changes a whole pixel of it.
The same clips run in float32, in float64, and with SAM2's part rounded to float16 and to bfloat16. Of each pair: pixels
of the memory masks that flip, what moves in the logits of the frames that read them, and how far the final masks agree.
Each pair is run again with the masks of float32 in memory: what then moves is rounding alone, the rest is the flips'.
Last, one pixel is flipped by hand in each memory mask, the one nearest to zero: what a single flip can move.

Rounded runs are emulated: weights of SAM2's layers, and what each layer hands on, are rounded, sums are float32. So the
figures are those of the type and not of a CPU's kernels. The fuser stays float32, which float16 cannot hold.
"""

import argparse
import copy
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from auralsam2.data.samples import Sample
from auralsam2.data.world.held_out import read_split
from auralsam2.data.world.scenes import Split
from auralsam2.model.aural_sam2 import AuralSAM2
from auralsam2.model.loading import load_aural_sam2
from auralsam2.model.sounding_sam2 import ClipOutput
from auralsam2.network.image_encoder import normalise
from auralsam2.network.log_mel import LogMel
from auralsam2.network.memory import MASK_BIAS, MASK_SCALE, enlarge, harden
from auralsam2.network.readout import best

NUM_CLIPS = 25
SPLITS: tuple[Split, ...] = ("single", "multi")
PAIRS = ("float64", "float16", "bfloat16", "one pixel")
_ROUNDED_LAYERS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d, nn.LayerNorm, nn.Embedding)


@dataclass(frozen=True)
class Difference:
    """One clip, computed twice."""

    flipped: int
    """Pixels of all its memory masks that differ, S x S each, where both show the same candidate."""
    switched: int
    """Memory masks that show another candidate: the predicted IoU of two is nearly the same."""
    moved: float
    """Largest change of a logit of any candidate, over the frames that read a memory."""
    agreement: float
    """Mean intersection over union of the final masks; 1 where both are empty."""


def memory_masks(out: ClipOutput) -> Tensor:
    """Make the binary masks [T, 1, S, S] that the frames leave in memory; that of the last frame nobody reads."""
    return harden(enlarge(best(out.low_res_logits, out.iou)[:, None]))


def difference(one: ClipOutput, other: ClipOutput, remembered: Tensor) -> Difference:
    """Compare two results of one clip, decoded from frame 0 on.

    Args:
        remembered: [T, 1, S, S], the masks that `other` left in memory; those of `one` are its own.
    """
    moved = (one.low_res_logits.double() - other.low_res_logits.double())[1:].abs()
    flipped = ((memory_masks(one) > 0) != (remembered > 0)).flatten(1).sum(1)[:-1]
    switched = (one.iou.argmax(1) != other.iou.argmax(1))[:-1]
    final = [enlarge(out.select().double()[:, None]) > 0 for out in (one, other)]
    overlap, union = (both(*final).flatten(1).sum(1) for both in (torch.logical_and, torch.logical_or))
    agreement = torch.where(union > 0, overlap / union, 1.0)
    return Difference(
        int(flipped[~switched].sum()),
        int(switched.sum()),
        float(moved.max()) if len(moved) else 0.0,
        float(agreement.mean()),
    )


@contextmanager
def remembering(model: AuralSAM2, masks: Tensor) -> Iterator[None]:
    """Let `model` remember `masks` [T, 1, S, S], in order of decoding, instead of its own."""
    given = iter(masks)

    def replace(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor]:
        return (next(given)[None].to(inputs[0].dtype) * MASK_SCALE + MASK_BIAS,)

    hook = model.v_model.memory_encoder.mask_downsampler.register_forward_pre_hook(replace)
    try:
        yield
    finally:
        hook.remove()


def nudge(out: ClipOutput) -> Tensor:
    """Flip in each of a clip's memory masks [T, 1, S, S] the pixel whose logit is nearest to zero."""
    masks = memory_masks(out).flatten(1)
    nearest = enlarge(best(out.low_res_logits, out.iou)[:, None]).flatten(1).abs().argmin(1)
    rows = torch.arange(len(masks))
    masks[rows, nearest] = 1 - masks[rows, nearest]
    return masks.view(-1, 1, 4 * out.low_res_logits.shape[-2], 4 * out.low_res_logits.shape[-1])


def round_to(model: AuralSAM2, dtype: torch.dtype) -> AuralSAM2:
    """Copy `model`, its SAM2 part with weights, and activations between layers, rounded to `dtype`; all is float32."""
    twin = copy.deepcopy(model)

    def hand_on(module: nn.Module, inputs: Any, out: Tensor) -> Tensor:
        return out.to(dtype).float()

    for layer in twin.v_model.modules():
        if isinstance(layer, _ROUNDED_LAYERS):
            layer.register_forward_hook(hand_on)
    for parameter in twin.v_model.parameters():
        parameter.data = parameter.data.to(dtype).float()
    return twin


def in_float64(model: AuralSAM2) -> AuralSAM2:
    """Copy `model` in float64, but for the position constants of the decoder: sam2 makes those in float32."""
    twin = copy.deepcopy(model).double()

    def widen(module: nn.Module, inputs: Any, out: Tensor) -> Tensor:
        return out.double()

    twin.v_model.sam_prompt_encoder.pe_layer.float().register_forward_hook(widen)
    return twin


class Bench:
    """One network at four precisions."""

    def __init__(self, model: AuralSAM2) -> None:
        self.model, self.log_mel = model, LogMel()
        self.others = {
            "float64": in_float64(model),
            "float16": round_to(model, torch.float16),
            "bfloat16": round_to(model, torch.bfloat16),
        }

    @torch.inference_mode()
    def measure(self, sample: Sample) -> dict[str, tuple[Difference, Difference]]:
        """Compare each of PAIRS with float32: as it is, and with the memory masks of float32."""
        frames = normalise(torch.from_numpy(sample.frames))
        heard = self.log_mel(torch.from_numpy(sample.windows))
        plain = self.model(frames, heard)
        masks = memory_masks(plain)

        def again(model: AuralSAM2, given: Tensor) -> Difference:
            dtype = next(model.parameters()).dtype
            with remembering(model, given):
                return difference(plain, model(frames.to(dtype), heard.to(dtype)), given)

        found = {}
        for name, model in self.others.items():
            dtype = next(model.parameters()).dtype
            own = model(frames.to(dtype), heard.to(dtype))
            found[name] = difference(plain, own, memory_masks(own)), again(model, masks)
        found["one pixel"] = again(self.model, nudge(plain)), again(self.model, masks)
        return found


def table(found: Sequence[dict[str, tuple[Difference, Difference]]]) -> list[str]:
    """Lay out the figures of some clips as a Markdown table, a line a pair."""
    lines = [
        "| against float32 | clips with a flip | pixels flipped a clip (most) | another candidate, of all masks"
        " | logits moved, median (most) | with float32's memory | IoU of final masks (least) | with float32's memory |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in PAIRS:
        own, forced = zip(*(clip[name] for clip in found), strict=True)
        flips = [d.flipped for d in own]
        cells = (
            name,
            f"{np.mean([f > 0 for f in flips]):.0%}",
            f"{np.mean(flips):.2f} ({max(flips)})",
            f"{sum(d.switched for d in own)}",
            *(f"{np.median([d.moved for d in ds]):.2g} ({max(d.moved for d in ds):.2g})" for ds in (own, forced)),
            *(f"{np.mean([d.agreement for d in ds]):.6f} ({min(d.agreement for d in ds):.4f})" for ds in (own, forced)),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m auralsam2.evaluation.hysteresis", description=__doc__)
    parser.add_argument("--checkpoint", help="weights of `compact`; default: those that are shipped")
    parser.add_argument("--clips", type=int, default=NUM_CLIPS, help="of each split; default: %(default)s")
    given = parser.parse_args()
    model, about = load_aural_sam2("compact", checkpoint=given.checkpoint)
    bench = Bench(model)
    samples: Iterable[Sample] = chain.from_iterable(read_split(split, given.clips) for split in SPLITS)
    found = [bench.measure(sample) for sample in samples]
    print(f"{about}, the first {given.clips} held-out clips of {' and '.join(SPLITS)}")
    print("\n".join(table(found)))


if __name__ == "__main__":
    main()
