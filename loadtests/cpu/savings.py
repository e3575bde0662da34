"""`python -m loadtests.cpu.savings`: what each exact change to the published computation saves of a clip.

Both forms of each part run in eager PyTorch, float32, in turns; arithmetic and bytes are counted operator by operator
(`kernels/counting.py`). That they compute the same is held by the tests that the table names.
Writes savings.json and savings.md.
"""

import argparse
import copy
import dataclasses
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from auralsam2 import AuralSAM2
from auralsam2.model.published import read_memory
from auralsam2.network import image_encoder, mask_decoder
from auralsam2.network.fusion import AudioVisualFusion, fold
from auralsam2.network.memory import Remembered, attend, fold_values, gather, remember
from auralsam2.network.positions import sine_2d
from auralsam2.network.segment_anything import SegmentAnything
from auralsam2.network.windowed_trunk import windowed_features
from auralsam2.presets import IMAGE_SIZES, STRIDE
from auralsam2.stages.image_stages import HieraStage
from auralsam2_client.new_file import write_new
from kernels.bench import in_turns
from kernels.counting import Counted, count_operators
from kernels.fusion.pytorch import fuse
from loadtests.cases.case import Case
from loadtests.cpu.report import machine, machine_sentence

Part = Callable[[], object]
UNITS = (("gflop", 2), ("gb", 2), ("s", 3))


@dataclass(frozen=True)
class Saving:
    """One change: both forms of what it touches, `times` of which make a clip."""

    name: str
    held_by: str
    before: Part
    after: Part
    times: int = 1


def savings(model: AuralSAM2, num_frames: int) -> Iterator[Saving]:
    """List all changes, for clips of `num_frames` frames. Maps are noise: neither count nor time depends on them."""
    sam, fuser = model.v_model, model.aural_fuser
    hiera, size, width = HieraStage(model), model.image_size, model.preset.width
    draw = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw)

    frame = noise(1, 3, size, size)
    yield Saving(
        "Hiera window by window, padding as one weighted key",
        "auralsam2/network/test_windowed_trunk.py",
        lambda: image_encoder.trunk_features(hiera.trunk, frame, hiera.position),
        lambda: windowed_features(hiera.trunk, frame, hiera.position),
        num_frames,
    )
    channels = hiera.high_res_s4.in_channels, hiera.high_res_s8.in_channels
    maps = [noise(1, count, size // stride, size // stride) for count, stride in zip(channels, (4, 8), strict=True)]
    yield Saving(
        "FPN levels 0 and 1 folded into their four readers",
        "auralsam2/stages/test_clip_stages.py",
        lambda: _unfolded(model, maps),
        lambda: [
            read(given)
            for given, readers in zip(
                maps, ((hiera.high_res_s4, hiera.patches_1), (hiera.high_res_s8, hiera.patches_2)), strict=True
            )
            for read in readers
        ],
        num_frames,
    )
    side = size // STRIDE
    visual, sound = noise(num_frames, side**2, width), noise(num_frames, width)
    plain = fuser.fusion_modules[0]
    assert isinstance(plain, AudioVisualFusion)
    weights = fold(plain)
    yield Saving(
        "Fusion in low rank, batch norms and scales folded",
        "auralsam2/model/test_fused.py",
        lambda: plain(visual, sound, side),
        lambda: fuse(visual, sound, weights, plain.form),
        len(fuser.fusion_modules),
    )
    positions = model.positions()
    image = noise(*positions.image.shape)
    bank = {t: Remembered(noise(*positions.memory.shape), noise(1, width)) for t in range(num_frames - 1)}

    folded = copy.deepcopy(sam)
    fold_values(folded)

    def clip(read: Callable[..., Tensor], *, kept: bool, network: SegmentAnything = sam) -> None:
        for remembered in bank.values():
            remembered.keys.clear()
        for t in range(1, num_frames):
            memory = gather(network, bank, t, (0,), positions)
            read(network, image, memory if kept else dataclasses.replace(memory, keys=None), positions)

    yield Saving(
        "Memory attention: 64-wide values, real rotary pairs",
        "auralsam2/network/test_against_sam2.py",
        lambda: clip(read_memory, kept=False),
        lambda: clip(attend, kept=False),
    )
    yield Saving(
        "Memory attention: keys of a remembered frame once",
        "auralsam2/network/test_memory.py",
        lambda: clip(attend, kept=False),
        lambda: clip(attend, kept=True),
    )
    yield Saving(
        "Memory attention: values and output in one product",
        "auralsam2/network/test_memory.py",
        lambda: clip(attend, kept=True),
        lambda: clip(attend, kept=True, network=folded),
    )
    embedding, logits = noise(1, width, side, side), noise(1, 1, size // 4, size // 4)
    yield Saving(
        "No memory encoder on the last frame",
        "auralsam2/model/test_published.py",
        lambda: remember(sam, embedding, logits),
        lambda: None,
    )
    yield Saving(
        "Position encodings as constants",
        "auralsam2/stages/test_clip_stages.py",
        lambda: (
            image_encoder.position_embedding(hiera.trunk, size),
            mask_decoder.dense_positions(sam),
            sine_2d(width, side),
        ),
        lambda: None,
    )


def _unfolded(model: AuralSAM2, maps: Sequence[Tensor]) -> list[Tensor]:
    sam, fuser = model.v_model, model.aural_fuser
    neck, decoder = sam.image_encoder.neck, sam.sam_mask_decoder
    fpn = neck.convs[3](maps[0]), neck.convs[2](maps[1])
    return [decoder.conv_s0(fpn[0]), fuser.patches(0, fpn[0]), decoder.conv_s1(fpn[1]), fuser.patches(1, fpn[1])]


def unused_parameters(preset: str) -> tuple[int, int]:
    """Count the parameters that no mask depends on, so that no graph holds them, and all: `(unused, all)`.

    Contrastive heads, spatial reductions of the sound's blocks, SAM2's own prompts and the like.
    """
    model = AuralSAM2.from_preset(preset, IMAGE_SIZES[-1]).train(False)
    answer = model(torch.zeros(2, 3, model.image_size, model.image_size), torch.zeros(2, 2, 96, 64))
    torch.stack([part.sum() for part in vars(answer).values() if part.requires_grad]).sum().backward()
    counts = [(parameter.grad is None, parameter.numel()) for parameter in model.parameters()]
    return sum(count for unread, count in counts if unread), sum(count for _, count in counts)


def measure(saving: Saving, rounds: int) -> dict[str, Any]:
    """Measure GFLOP, GB and seconds of a clip, before and after."""
    with torch.inference_mode():
        seconds = in_turns({"before": saving.before, "after": saving.after}, rounds)
    counts: dict[str, Counted] = {"before": count_operators(saving.before), "after": count_operators(saving.after)}
    record: dict[str, Any] = {"name": saving.name, "held_by": saving.held_by}
    for form, count in counts.items():
        ordered = sorted(seconds[form])
        record[form] = {
            "gflop": saving.times * count.flop / 1e9,
            "gb": saving.times * count.bytes / 1e9,
            "s": saving.times * ordered[len(ordered) // 2],
        }
    return record


def markdown(record: dict[str, Any]) -> str:
    lines = [
        "| change | GFLOP a clip | GB moved | s, eager | held by |",
        "|---|---:|---:|---:|---|",
    ]
    for row in record["savings"]:
        before, after = row["before"], row["after"]
        cells = (f"{before[unit]:.{digits}f} -> {after[unit]:.{digits}f}" for unit, digits in UNITS)
        lines.append(f"| {row['name']} | {' | '.join(cells)} | `tests/{row['held_by']}` |")
    unused, total = record["parameters"]
    lines += [
        "",
        f"Of {total / 1e6:.1f} million parameters {unused / 1e6:.1f} million have no part in the masks and are in no"
        " graph that answers by sound.",
        f"`{record['preset']}`, {record['image_size']} px, {record['num_frames']} frames, float32, medians of"
        f" {record['rounds']}. {machine_sentence(record['machine'])}.",
    ]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtests.cpu.savings", description=__doc__)
    parser.add_argument(
        "--case",
        type=Case.parse,
        default=Case("hiera_base_plus", 512, 5),
        metavar="PRESET:SIZE:FRAMES",
        help="what is measured; default: hiera_base_plus:512:5",
    )
    parser.add_argument("--rounds", type=int, default=5, help="of each form; default: %(default)s")
    parser.add_argument(
        "--out", type=Path, default=Path("out/savings-cpu"), help="folder for the report; default: %(default)s"
    )
    given = parser.parse_args(arguments)
    case: Case = given.case
    given.out.mkdir(parents=True, exist_ok=True)
    model = AuralSAM2.from_preset(case.preset, case.image_size).eval()
    rows = []
    for saving in savings(model, case.num_frames):
        rows.append(measure(saving, given.rounds))
        print(saving.name, file=sys.stderr, flush=True)
    record = {
        **dataclasses.asdict(case),
        "rounds": given.rounds,
        "machine": machine(),
        "parameters": unused_parameters(case.preset),
        "savings": rows,
    }
    write_new(given.out / "savings.json", json.dumps(record, indent=1) + "\n")
    text = markdown(record)
    write_new(given.out / "savings.md", text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
