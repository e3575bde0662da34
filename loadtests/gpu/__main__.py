"""`python -m loadtests.gpu`: the bench of a card, within ten minutes. A row is written when it is known, and kept.

Writes gpu.json, gpu.md and gpu.svg. Ended and begun again, it goes on with what is missing.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import torch

from auralsam2_client.new_file import write_new
from loadtests.cases.case import Case
from loadtests.gpu.measuring import card
from loadtests.gpu.planning.jobs import OUT_OF_TIME, Budget, Job, Kind, plan
from loadtests.gpu.planning.records import Results, code_digest, commit
from loadtests.gpu.report import picture, tables
from loadtests.gpu.running import run_job

CASES = ("hiera_base_plus:1024:5", "hiera_base_plus:512:5", "hiera_large:1024:5")
MINUTES = 10.0
WRITING_S = 10.0
NO_CARD = 3
"""Exit code where there is nothing to measure with."""
Run = Callable[..., dict[str, dict[str, Any]]]


def say(line: str) -> None:
    """Print a line of progress on stderr at once."""
    print(line, file=sys.stderr, flush=True)


def measure(
    jobs: Sequence[Job],
    results: Results,
    budget: Budget,
    out: Path,
    device: str,
    *,
    run: Run = run_job,
    read_clocks: Callable[[], dict[str, str]] = card.describe_clocks,
) -> list[dict[str, str]]:
    """Do the jobs in turn, as far as the budget reaches; every row ends with figures or with the reason for none.

    Returns: the card's clocks, as read after each job.
    """
    clocks = []
    for job in jobs:
        missing = tuple(row for row in job.rows if not results.has(job.key(row)))
        # What is compiled is timed beside the same rows that are not.
        rows = job.rows if job.kind == "compiled" and missing else missing
        if not rows:
            say(f"kept       {job.kind}, {job.case.name}")
            continue
        share = budget.share_of(job)
        if share is None:
            found: dict[str, dict[str, Any]] = {row: {"reason": OUT_OF_TIME} for row in rows}
        else:
            say(f"begun      {job.kind}, {job.case.name}: up to {share:.0f} s of {budget.left_s:.0f} s")
            found = run(job, rows, share, out, device, say)
        for row, record in found.items():
            results.keep(job.key(row), record)
        if share is not None:
            clocks.append(read_clocks())
    return clocks


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtests.gpu", description=__doc__)
    parser.add_argument(
        "--cases",
        nargs="+",
        type=Case.parse,
        default=list(map(Case.parse, CASES)),
        help="PRESET:SIZE:FRAMES; default: those of the report",
    )
    parser.add_argument(
        "--only", nargs="+", choices=get_args(Kind), default=get_args(Kind), help="kinds of rows; default: all"
    )
    parser.add_argument("--minutes", type=float, default=MINUTES, help="of measuring, all in all; default: %(default)s")
    parser.add_argument(
        "--out", type=Path, default=Path("out/bench-gpu"), help="folder for the report; default: %(default)s"
    )
    parser.add_argument("--again", action="store_true", help="measure also what --out holds of this code and this card")
    parser.add_argument(
        "--device", choices=("cuda", "cpu"), default="cuda", help="cpu: to try the bench itself; default: %(default)s"
    )
    given = parser.parse_args(arguments)
    if given.device == "cuda" and not torch.cuda.is_available():
        print(card.NO_CARD, file=sys.stderr)
        return NO_CARD
    begun = time.monotonic()
    given.out.mkdir(parents=True, exist_ok=True)
    found = card.describe(given.device)
    # Not the versions of what is measured: a newer torch is another measurement, and stands in `found` as well.
    results = Results(given.out / "gpu.json", {"card": found, "code": code_digest()}, again=given.again)
    jobs = [job for job in plan(given.cases) if job.kind in given.only]
    clocks = measure(jobs, results, Budget(60 * given.minutes - WRITING_S), given.out, given.device)
    about = {"card": found, "commit": commit(), "clocks": clocks, "seconds": round(time.monotonic() - begun, 1)}
    results.write(about)
    text = tables.markdown(jobs, results.rows, about)
    write_new(given.out / "gpu.md", text)
    svg = picture.draw(picture.panels(jobs, results.rows), f"{tables.card_sentence(found)}; code {about['commit']}")
    write_new(given.out / "gpu.svg", svg)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
