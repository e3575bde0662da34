"""The process that does one job of the bench. What it finds it writes at once, a line a row, so that nothing is lost
when it is ended, or when a fault of the card ends it.
"""

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from loadtests.cases.case import Case
from loadtests.gpu.measuring.timing import explain
from loadtests.gpu.planning.jobs import Kind


class Answers:
    """The file of a job's rows, written line by line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.given: set[str] = set()

    def keep(self, row: str, record: dict[str, Any]) -> None:
        """Write one row."""
        with self._path.open("a") as file:
            print(json.dumps({"row": row, "record": record}), file=file, flush=True)
        self.given.add(row)


def do(
    kind: Kind,
    case: Case,
    rows: Sequence[str],
    precision: str,
    device: str,
    seconds: float,
    folder: Path,
    answers: Answers,
) -> None:
    """Measure the rows of a job. What it needs is imported here, so that what is missing costs its own rows only."""
    # A CPU, which only tries the bench, serves in float32 alone.
    own = precision if device == "cuda" else "float32"
    if kind in ("network", "compiled"):
        from loadtests.gpu.clip.ways import Bench
        from loadtests.gpu.rows.network import measure_network

        measure_network(Bench(case, device), rows, seconds, answers.keep)
    elif kind == "kernels":
        from loadtests.gpu.rows.operators import measure_operators

        measure_operators(precision, rows, device, seconds, answers.keep)
    elif kind == "stages":
        from loadtests.gpu.clip.ways import Bench
        from loadtests.gpu.rows.stages import measure_stages

        measure_stages(Bench(case, device), own, seconds, answers.keep)
    else:
        from loadtests.gpu.rows.service import export_build, measure_service

        export = partial(export_build, device=device)
        measure_service(case, own, rows, seconds, answers.keep, folder, export=export)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtests.gpu.worker", description=__doc__)
    parser.add_argument("job", type=json.loads, help="what `Job.wire` writes, as JSON")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--device", default="cuda", help="cuda | cpu; default: %(default)s")
    parser.add_argument("--answers", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True, help="where builds of the service are kept")
    given = parser.parse_args(arguments)
    # Ended by its time, it still leaves its contexts: a server that it started is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    job, answers = given.job, Answers(given.answers)
    try:
        do(
            job["kind"],
            Case.parse(job["case"]),
            job["rows"],
            job["precision"],
            given.device,
            given.seconds,
            given.folder,
            answers,
        )
    except Exception as error:  # noqa: BLE001  (it becomes the reason of what is not answered)
        print(explain(error), file=sys.stderr)
        for row in job["rows"]:
            if row not in answers.given:
                answers.keep(row, {"reason": explain(error)})
    return 0


if __name__ == "__main__":
    sys.exit(main())
