"""Judge how well what sounds is named: `python -m auralsam2.evaluation.classes`, on held-out clips or an AVSBench
folder.

Figures go to a JSON file, with the controls that make them worth something; three clips go to a picture beside it.
Killed at any moment, the same command goes on with the cases that the file does not hold.
"""

import argparse
import json
import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from auralsam2 import checkpoints
from auralsam2.classes.head_file import load_classifier
from auralsam2.data import avsbench
from auralsam2.data.label_maps import class_names
from auralsam2.data.label_maps import open_labelled as open_folder
from auralsam2.data.labelled import Reader
from auralsam2.data.world.held_out import NUM_CLIPS
from auralsam2.data.world.labels import open_labelled as open_world
from auralsam2.data.world.scenes import SPLITS
from auralsam2.data.world.shapes import SHAPES
from auralsam2.errors import NetworkError
from auralsam2.evaluation.classes.judging import HEARINGS, ClassReport, Hearing, Judge, judge_split
from auralsam2.evaluation.classes.picture import write_picture
from auralsam2.model.shipped import sha256_of, shipped_class_head, shipped_weights
from auralsam2_client.new_file import write_new

PICTURED = (("multi", 0), ("multi", 1), ("unseen", 1))


@dataclass(frozen=True)
class Job:
    """What is judged, with which files."""

    preset: str
    checkpoint: str | None
    classes: str | None
    data: Path | None
    """An AVSBench folder; None: the procedural world."""
    num_clips: int | None

    def open(self, split: str) -> list[Reader]:
        """List the clips of a split."""
        if self.data is not None:
            return open_folder(self.data, split, limit=self.num_clips)
        (known,) = (each for each in SPLITS if each == split)
        return open_world(known, NUM_CLIPS if self.num_clips is None else self.num_clips)

    def judge(self) -> Judge:
        """Load the classifier."""
        names = SHAPES if self.data is None else class_names(self.data)
        return Judge(load_classifier(self.preset, self.checkpoint, self.classes), names)


def run_case(job: Job, case: tuple[str, Hearing]) -> ClassReport:
    """Judge one split, heard in one way."""
    split, hearing = case
    return judge_split(split, job.open(split), job.judge(), hearing)


def identity(job: Job, judge: Judge) -> dict[str, Any]:
    """Say what figures are of, as the JSON file has it."""
    head, weights = (
        checkpoints.fetch(given or str(shipped))
        for given, shipped in (
            (job.classes, shipped_class_head(job.preset)),
            (job.checkpoint, shipped_weights(job.preset)),
        )
    )
    return {
        "weights": weights.name,
        "weights_sha256": sha256_of(weights),
        "class_head": head.name,
        "class_head_sha256": sha256_of(head),
        "classes": list(judge.classifier.names),
        "data": "procedural world" if job.data is None else job.data.name,
        "clips": job.num_clips,
    }


def kept_cases(out: Path, about: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """Find the cases that the file holds, by split and hearing; none where its figures are of something else."""
    try:
        record = json.loads(out.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(record, dict) or any(record.get(key) != value for key, value in about.items()):
        return {}
    return {(case["split"], case["hearing"]): case for case in record["cases"] if case["hearing"] in HEARINGS}


def lines(case: dict[str, Any]) -> list[str]:
    """Say the figures of one case, as the JSON file has it, in lines for people."""
    split, hearing = case["split"], case["hearing"]
    rows = {hearing: case["score"]}
    if hearing == "own":
        rows |= {"classes exchanged": case["exchanged"], "true classes": case["true_classes"]}
    found = []
    for name, score in rows.items():
        each, pooled = score["avsbench"], score["pooled"]
        without, f_without = each["mean_iou_without_background"], each["f_score_without_background"]
        bare = "" if without is None else f"  without background {without:.3f} {f_without:.3f}"
        found.append(
            f"{split:8} {name:20} mIoU {each['mean_iou']:.3f}  F {each['f_score']:.3f}{bare}"
            f"  pooled {pooled['mean_iou']:.3f} {pooled['f_score']:.3f}"
        )
    right = "none shared" if case["named_right"] is None else f"{case['named_right']:.3f}"
    found.append(f"{split:8} {'':20} pixels named right {right}, frames {case['frames_right']:.3f}")
    return found


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command's arguments."""
    parser = argparse.ArgumentParser(prog="python -m auralsam2.evaluation.classes", description=__doc__)
    parser.add_argument("--preset", default="compact", help="default: %(default)s")
    parser.add_argument("--checkpoint", help="the network's weights; default: those that are shipped")
    parser.add_argument("--classes", help="file of the class head; default: the one that is shipped")
    parser.add_argument("--data", type=Path, help="an AVSBench folder with classes; default: the procedural world")
    parser.add_argument("--splits", nargs="+", help="of the world, or subsets of the folder; default: all, or v2")
    parser.add_argument("--clips", type=int, help="of each split; default: 200, or all of the folder's")
    parser.add_argument("--control-split", default="multi", help="judged with other sounds too; default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("out/classes.json"), help="default: %(default)s")
    parser.add_argument("--picture", type=Path, help="default: beside --out, .png")
    parser.add_argument("--workers", type=int, default=2, help="processes; default: %(default)s")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Run the command. Exit code 2 where something cannot be read; cases that were judged are kept in the file."""
    given = parse(arguments)
    splits = given.splits or (list(SPLITS) if given.data is None else ["v2"])
    known = SPLITS if given.data is None else avsbench.SUBSETS
    try:
        unknown = [split for split in splits if split not in known]
        if unknown:
            raise NetworkError(f"split {unknown[0]!r} is unknown; choose of {', '.join(known)}.")
        checkpoints.check(given.checkpoint, given.classes)
        job = Job(given.preset, given.checkpoint, given.classes, given.data, given.clips)
        judge = job.judge()
        cases = [(split, HEARINGS[0]) for split in splits]
        cases += [(split, hearing) for split in splits if split == given.control_split for hearing in HEARINGS[1:]]
        picture = given.picture or given.out.with_suffix(".png")
        for path in (given.out, picture):
            path.parent.mkdir(parents=True, exist_ok=True)
        done = _judge_all(job, cases, given.out, identity(job, judge), given.workers)
        draw(job, judge, splits, picture)
    except OSError as error:
        print(f"{error.filename} cannot be written ({error.strerror}); choose another --out.", file=sys.stderr)
        sys.exit(2)
    except NetworkError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    for case in cases:
        print("\n".join(lines(done[case])))
    print(f"{given.out}, {picture}")


def _judge_all(
    job: Job, cases: list[tuple[str, Hearing]], out: Path, about: dict[str, Any], workers: int
) -> dict[tuple[str, str], dict[str, Any]]:
    """Judge the cases that the file does not hold yet; it is written after each."""
    done = kept_cases(out, about)
    left = [case for case in cases if case not in done]
    with ExitStack() as stack:
        run = partial(run_case, job)
        if workers > 1 and left:
            pool = ProcessPoolExecutor(workers, get_context("spawn"), torch.set_num_threads, (1,))
            reports: Iterable[ClassReport] = stack.enter_context(pool).map(run, left)
        else:
            reports = map(run, left)
        for report in reports:
            done[report.split, report.hearing] = report.as_json()
            record = about | {"cases": [done[case] for case in sorted(done, key=_place)]}
            write_new(out, json.dumps(record, indent=1) + "\n")
    return done


def _place(case: tuple[str, str]) -> tuple[int, str]:
    split, hearing = case
    return HEARINGS.index(hearing), split


def draw(job: Job, judge: Judge, splits: list[str], path: Path) -> Path:
    """Draw three clips of the splits that were judged, with their classes."""
    readers = {split: job.open(split) for split in splits}
    wanted = [(split, number) for split, number in PICTURED if split in splits]
    wanted += [(split, number) for split in splits for number in range(len(PICTURED))]
    places = [place for place in dict.fromkeys(wanted) if place[1] < len(readers[place[0]])][: len(PICTURED)]
    clips = [readers[split][number]() for split, number in places]
    return write_picture(path, [(clip, judge.classify(clip, "own", clip)[0]) for clip in clips], judge.names)


if __name__ == "__main__":
    main()
