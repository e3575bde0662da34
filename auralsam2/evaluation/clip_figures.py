"""What the shipped weights score, clip by clip, kept beside them: `python -m auralsam2.evaluation.clip_figures`.

The command evaluates the cases of the model card, 200 held-out clips each, and writes weights/compact.figures.json. Run
it when the weights change, or what the network computes. The tests score some of the clips again, and hold the means of
all to what the weights must reach; so a run of the tests need not evaluate a thousand clips.
"""

import argparse
import json
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import torch

from auralsam2.data.samples import Clip
from auralsam2.data.world.held_out import NUM_CLIPS, SEED, read_split
from auralsam2.data.world.scenes import Split
from auralsam2.errors import DataError
from auralsam2.evaluation.in_process import network_predictor
from auralsam2.evaluation.predictions import Predictor, Sound, with_sound
from auralsam2.evaluation.protocol import PROJECT_AVSBENCH
from auralsam2.evaluation.scoring import evaluate
from auralsam2.evaluation.tallies import Score
from auralsam2.model.loading import load_network
from auralsam2.model.shipped import fingerprint, shipped_weights
from auralsam2.network.readout import ReadOut
from auralsam2_client.new_file import write_new

PRESET = "compact"
READ_OUT: ReadOut = "iou_occlusion"
DIGITS = 5
COMMAND = "python -m auralsam2.evaluation.clip_figures"


class Case(NamedTuple):
    """Which clips, and what they sound like."""

    split: Split
    sound: Sound

    @property
    def name(self) -> str:
        """Its name in the file."""
        return f"{self.split}, sound {self.sound}"


CASES = (
    *(Case(split, "own") for split in ("single", "multi", "unseen")),
    *(Case("multi", sound) for sound in ("other", "silent")),
)


class ClipFigures(NamedTuple):
    """One clip; the columns of the file. None: the clip has nothing to say about it."""

    jaccard: float
    """Mean over its frames, as in `Score.mean_jaccard`."""
    jaccard_with_object: float | None
    num_frames_with_object: int
    f_score: float | None
    empty_share: float


@dataclass(frozen=True)
class Figures:
    """The clips of every case, and the weights that they were scored with."""

    fingerprint: str
    clips: dict[str, tuple[ClipFigures, ...]]
    """By the name of the case, in the order of the split."""

    def means(self, case: Case) -> dict[str, float]:
        """Average the columns of the model card: M_J, M_J over frames with object, M_F, share of empty masks."""
        clips = self.clips[case.name]
        seen = [clip for clip in clips if clip.jaccard_with_object is not None]
        weights = [clip.num_frames_with_object for clip in seen]
        f_scores = [clip.f_score for clip in clips if clip.f_score is not None]
        return {
            "M_J": sum(clip.jaccard for clip in clips) / len(clips),
            "M_J with object": sum(
                (clip.jaccard_with_object or 0.0) * weight for clip, weight in zip(seen, weights, strict=True)
            )
            / sum(weights),
            "M_F": sum(f_scores) / len(f_scores),
            "empty": sum(clip.empty_share for clip in clips) / len(clips),
        }

    def write(self, path: Path) -> None:
        """Write the file: a line a clip, so that a difference shows which clips moved."""
        cases = (
            f"  {json.dumps(name)}: [\n" + ",\n".join(f"   {json.dumps(clip)}" for clip in clips) + "\n  ]"
            for name, clips in self.clips.items()
        )
        head = f' "fingerprint": "{self.fingerprint}",\n "columns": {json.dumps(ClipFigures._fields)},\n'
        write_new(path, "{\n" + head + ' "clips": {\n' + ",\n".join(cases) + "\n }\n}\n")

    @classmethod
    def read(cls, path: Path) -> "Figures":
        """Read what `write` wrote. Raises: DataError for a file of another form."""
        record = json.loads(path.read_text())
        if record.get("columns") != list(ClipFigures._fields):
            raise DataError(f"{path.name}: columns {record.get('columns')}. Write the file again with: {COMMAND}")
        clips = {name: tuple(ClipFigures(*row) for row in rows) for name, rows in record["clips"].items()}
        return cls(record["fingerprint"], clips)


def score_clips(samples: Iterable[Clip], predict: Predictor) -> Iterator[ClipFigures]:
    """Score each sample by itself, with the evaluation's own loop."""
    for sample in samples:
        report = evaluate(sample.name, [sample], predict, protocol=PROJECT_AVSBENCH)
        score: Score = report.scores[READ_OUT]
        with_object, f_score = score.mean_jaccard_with_object, score.mean_f_score
        yield ClipFigures(
            round(score.mean_jaccard, DIGITS),
            None if with_object is None else round(with_object, DIGITS),
            report.num_frames - report.num_frames_without_object,
            None if f_score is None else round(f_score, DIGITS),
            round(score.empty_share, DIGITS),
        )


def score_case(case: Case, count: int = NUM_CLIPS) -> tuple[ClipFigures, ...]:
    """Score the shipped weights on the first `count` clips of a case."""
    samples = with_sound(read_split(case.split, NUM_CLIPS, SEED), case.sound)
    return tuple(score_clips(islice(samples, count), network_predictor(load_network(PRESET)[0])))


def figures_path() -> Path:
    """Tell where the figures of the shipped weights lie. Raises: DataError when no weights are shipped."""
    weights = shipped_weights(PRESET)
    if weights is None:
        raise DataError(f"no weights are shipped for preset {PRESET!r}, so there is nothing to score.")
    return weights.with_suffix(".figures.json")


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes; default: one a core")
    given = parser.parse_args()
    weights, path = shipped_weights(PRESET), figures_path()
    assert weights is not None
    pool = ProcessPoolExecutor(given.workers, get_context("spawn"), torch.set_num_threads, (1,))
    with pool:
        scored = list(pool.map(score_case, CASES))
    figures = Figures(fingerprint(weights), {case.name: clips for case, clips in zip(CASES, scored, strict=True)})
    figures.write(path)
    for case in CASES:
        means = ", ".join(f"{name} {value:.3f}" for name, value in figures.means(case).items())
        print(f"{case.name:20} {means}")


if __name__ == "__main__":
    main()
