"""What words are worth: `python -m auralsam2.evaluation.referring --out FILE`, on clips of the procedural world.

As the paper's ablation on Ref-AVS has it: pictures with sound, with a sentence, and with both, on held-out clips whose
sentence is of seen or unseen words, or refers to nothing; and, as a control, with sound and the sentence of another
clip. Sound is left out as silence, a sentence as no words. "needed" are the clips in which what sounds is not what is
referred to, so that the sentence alone tells. Last comes sound alone on clips without sentences, whose truth is what
sounds in each frame, beside the shipped network that never learned to read.
"""

import argparse
import json
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar, get_args

import numpy as np
import torch

from auralsam2.data.samples import Sample
from auralsam2.data.world import held_out
from auralsam2.data.world.held_out import NUM_CLIPS
from auralsam2.data.world.referring import REFERRING_SPLITS, Referred, ReferringSplit, read, refer
from auralsam2.data.world.scenes import Split
from auralsam2.evaluation.in_process import network_predictor
from auralsam2.evaluation.predictions import Predictor
from auralsam2.evaluation.protocol import PROJECT_REF_AVS as PROTOCOL
from auralsam2.evaluation.quality import null_score
from auralsam2.evaluation.scoring import read_out_logits
from auralsam2.evaluation.tallies import Tally
from auralsam2.model.loading import load_network
from auralsam2.model.with_text import load_with_text
from auralsam2_client.new_file import write_new

Given = Literal["sound", "text", "both", "wrong text"]
GIVEN: tuple[Given, ...] = get_args(Given)
SOUND_SPLITS: tuple[Split, ...] = ("single", "multi")
DIGITS = 5
Result = TypeVar("Result")
RESAMPLED, INTERVAL = 1000, (2.5, 97.5)


class ClipScore(NamedTuple):
    """One clip."""

    jaccard: float
    """Mean over its frames; a frame without the thing counts the share left empty."""
    f_score: float | None
    """None: no frame shows the thing."""
    null_score: float
    """Square root of the share of pixels in masks."""
    empty_share: float
    """Of frames."""


class Scored(NamedTuple):
    """One clip under everything that it was given."""

    kind: str
    """Of its sentence."""
    needed: bool
    scores: dict[Given, ClipScore]


def give(sample: Sample, given: Given, other: str) -> Sample:
    """Leave out of a clip what is not given; `other` is the sentence of another clip."""
    if given == "sound":
        return replace(sample, expression="")
    if given == "text":
        return replace(sample, windows=np.zeros_like(sample.windows))
    return replace(sample, expression=other) if given == "wrong text" else sample


def score(sample: Sample, predict: Predictor) -> ClipScore:
    """Score one clip under the project's protocol for Ref-AVS and its headline's read-out."""
    prediction, tally = predict(sample), Tally()
    prediction.check_finite(sample.name)
    size = sample.masks.shape[1], sample.masks.shape[2]
    tally.add(read_out_logits(prediction, PROTOCOL.headline, size, PROTOCOL.absent_logit), sample.masks)
    counts = tally.counts()
    inside, pixels = np.array(counts.inside), np.array([sample.masks.size])
    return ClipScore(
        round(counts.jaccard, DIGITS),
        None if counts.f_score is None else round(counts.f_score, DIGITS),
        round(null_score(inside, pixels, PROTOCOL.null_metric == "root"), DIGITS),
        round(float(np.mean(counts.empty)), DIGITS),
    )


def score_clip(referred: Referred, other: str, predict: Predictor) -> Scored:
    """Score one clip under everything that may be given."""
    sample = read(referred)
    scores = {given: score(give(sample, given, other), predict) for given in GIVEN}
    return Scored(referred.sentence.kind, referred.needed, scores)


def score_part(split: ReferringSplit, numbers: Sequence[int], count: int, checkpoint: str | None) -> list[Scored]:
    """Score some of the first `count` clips of a split, in a process of its own."""
    model, encode, _ = load_with_text("compact", checkpoint=checkpoint)
    predict = network_predictor(model, PROTOCOL.conditioning_frame, encode)
    clips = [refer(split, index) for index in range(count)]
    return [score_clip(clips[n], clips[(n + 1) % count].sentence.words, predict) for n in numbers]


def score_sound(
    split: Split, numbers: Sequence[int], count: int, checkpoint: str | None
) -> list[tuple[ClipScore, ClipScore]]:
    """Score some of the held-out clips of a split without sentences: what sounds, by the shipped network and by this.

    Both decode the middle frame first.
    """
    before = network_predictor(load_network("compact")[0], PROTOCOL.conditioning_frame)
    model, encode, _ = load_with_text("compact", checkpoint=checkpoint)
    after = network_predictor(model, PROTOCOL.conditioning_frame, encode)
    clips = held_out.open_split(split, count)
    samples = (replace(clips[n].read(), expression="") for n in numbers)
    return [(score(sample, before), score(sample, after)) for sample in samples]


def summarise(clips: Sequence[Scored]) -> dict[str, Any]:
    """Average clips, by what was given; M_J with an interval of 95 % over clips (bootstrap)."""
    return {given: _means([clip.scores[given] for clip in clips]) for given in GIVEN}


def _means(scores: Sequence[ClipScore]) -> dict[str, Any]:
    jaccards = np.array([each.jaccard for each in scores])
    drawn = np.random.default_rng(0).choice(jaccards, (RESAMPLED, len(jaccards))).mean(1)
    f_scores = [each.f_score for each in scores if each.f_score is not None]
    return {
        "clips": len(scores),
        "M_J": _rounded(jaccards),
        "M_J interval": [round(float(edge), DIGITS) for edge in np.percentile(drawn, INTERVAL)],
        "M_F": _rounded(f_scores) if f_scores else None,
        "S": _rounded([each.null_score for each in scores]),
        "empty": _rounded([each.empty_share for each in scores]),
    }


def _rounded(values: Iterable[float]) -> float:
    return round(float(np.mean(list(values))), DIGITS)


def report(split: ReferringSplit, clips: Sequence[Scored]) -> dict[str, Any]:
    """Make the figures of a split: of all its clips, of those that need the sentence, and by kind of sentence."""
    found = {"all": summarise(clips)}
    if split == "null":
        return found
    needed = [clip for clip in clips if clip.needed]
    kinds = {kind: [clip for clip in clips if clip.kind == kind] for kind in sorted({clip.kind for clip in clips})}
    found |= {"needed": summarise(needed)} if needed else {}
    return found | {"kinds": {kind: summarise(part) for kind, part in kinds.items()}}


def score_splits(
    count: int, workers: int, checkpoint: str | None, said: Callable[[str], None] = print
) -> dict[str, Any]:
    """Score the first `count` clips of every split, shared by `workers` processes of one thread."""
    found = dict[str, Any]()
    with ProcessPoolExecutor(workers, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        for split in REFERRING_SPLITS:
            clips = _shared(pool, workers, count, partial(score_part, split, count=count, checkpoint=checkpoint))
            found[split] = report(split, clips)
            said(table(split, found[split]))
        for world in SOUND_SPLITS:
            pairs = _shared(pool, workers, count, partial(score_sound, world, count=count, checkpoint=checkpoint))
            names = "shipped", "sound"
            means = {name: _means(scores) for name, scores in zip(names, zip(*pairs, strict=True), strict=True)}
            found[f"sound alone, {world}"] = {"all": means}
            said(table(world, found[f"sound alone, {world}"]))
    return found


def _shared(
    pool: ProcessPoolExecutor, workers: int, count: int, work: Callable[[Sequence[int]], list[Result]]
) -> list[Result]:
    """What `work` makes of the numbers below `count`, in their order."""
    shares = [range(count)[worker::workers] for worker in range(workers)]
    parts = pool.map(work, shares)
    by_number = {
        n: each for share, part in zip(shares, parts, strict=True) for n, each in zip(share, part, strict=True)
    }
    return [by_number[n] for n in range(count)]


def table(split: str, figures: dict[str, Any]) -> str:
    """Set the figures of a split as lines."""
    lines = [f"{split:8} {'given':12} {'clips':>5} {'M_J':>7} {'M_F':>7} {'S':>7} {'empty':>7}"]
    for part in ("all", "needed"):
        for given, means in figures.get(part, {}).items():
            values = (means["M_J"], means["M_F"], means["S"], means["empty"])
            cells = " ".join("      -" if value is None else f"{value:7.4f}" for value in values)
            lines.append(f"{part:8} {given:12} {means['clips']:5} {cells}")
    return "\n".join(lines)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m auralsam2.evaluation.referring", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="file of figures, JSON")
    parser.add_argument("--checkpoint", help="weights of fuser and text encoder; default: those that are shipped")
    parser.add_argument("--clips", type=int, default=NUM_CLIPS, help="of each split; default: %(default)s")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes; default: one a core")
    given = parser.parse_args()
    about = load_with_text("compact", checkpoint=given.checkpoint)[2]
    splits = score_splits(given.clips, given.workers, given.checkpoint, lambda text: print(text, flush=True))
    record = {"weights": about, "protocol": PROTOCOL.as_json(), "clips": given.clips, "splits": splits}
    write_new(given.out, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
