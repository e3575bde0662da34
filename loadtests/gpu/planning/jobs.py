"""What the bench measures, in the order of its worth, and how the minutes are shared out over it.

A job is a set of rows that one process measures in turns. What stands first gets what it can use; what is left when a
job ends, early or in an error, is there for those behind it.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from loadtests.cases.case import Case

Kind = Literal["network", "kernels", "service", "compiled", "stages"]
OUT_OF_TIME = "out of time"

PUBLISHED = "published, eager, float32"
PREDICTOR = "SAM2's own video predictor, one point, bfloat16 autocast"
OURS = "ours, one graph, float16"
COMPILED = "ours, compiled, one graph, float16"
NETWORK_ROWS = (
    PUBLISHED,
    "published, eager, TF32",
    "published, autocast, float16",
    "published, autocast, bfloat16",
    PREDICTOR,
    "ours, eager, float16",
    OURS,
    "ours, one graph, bfloat16",
    "ours, one graph, float32",
)
COMPILED_ROWS = (OURS, COMPILED)
OPERATORS = ("fusion, released", "fusion, paper", "memory attention", "depth-wise GELU")
CALLERS = (1, 2, 4, 8)
READY_ROW = "service, seconds to ready"
STAGES_ROW, KERNELS_ROW = "stages", "kernels of a clip"
STAGE_ROWS = (STAGES_ROW, KERNELS_ROW)


def callers_row(count: int) -> str:
    return f"service, callers: {count}"


SERVICE_ROWS = (READY_ROW, *map(callers_row, CALLERS))


def peaks_row(precision: str) -> str:
    """Name the row of what the card itself can do in one type."""
    return f"the card's own speeds, {precision}"


def kernel_rows(precision: str) -> tuple[str, ...]:
    return (peaks_row(precision), *(f"{operator}, {precision}" for operator in OPERATORS))


@dataclass(frozen=True)
class Job:
    """Rows of one case for one process."""

    kind: Kind
    case: Case
    rows: tuple[str, ...]
    least_s: float
    """With less than this it is not begun."""
    most_s: float
    """It is ended after this; what it has answered by then stays."""
    precision: str = "float16"
    """Of what does not name its own."""

    def key(self, row: str) -> str:
        """Name a row for the record: compiling measures one of the network's rows again beside its own."""
        return f"{self.case.name}/{self.kind}/{row}"

    def wire(self) -> dict[str, Any]:
        """Write it down for the process that does it."""
        case = f"{self.case.preset}:{self.case.image_size}:{self.case.num_frames}"
        return {"kind": self.kind, "case": case, "rows": list(self.rows), "precision": self.precision}


def plan(cases: Sequence[Case]) -> list[Job]:
    """List the jobs, the most worthy first: all of the first case; of the others our graph, and its compiled form.

    Seconds are of one H200; compiling that takes longer elsewhere ends at `most_s` and costs its own rows only.
    """
    first, *others = cases
    jobs = [
        Job("network", first, NETWORK_ROWS, 40, 150),
        Job("kernels", first, kernel_rows("float16"), 20, 90),
        Job("stages", first, STAGE_ROWS, 25, 60),
        Job("compiled", first, COMPILED_ROWS, 60, 210),
        # After what is compiled: an export finds the same code in the compiler's cache, and has time for its callers.
        Job("service", first, SERVICE_ROWS, 60, 300),
    ]
    jobs += [Job("network", case, (PUBLISHED, OURS), 25, 60) for case in others]
    jobs += [Job("kernels", first, kernel_rows("bfloat16"), 20, 60, "bfloat16")]
    jobs += [Job("compiled", case, COMPILED_ROWS, 60, 210) for case in others]
    return jobs


class Budget:
    """The seconds of a run, and what each job may take of them."""

    def __init__(self, total_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._end = clock, clock() + total_s

    @property
    def left_s(self) -> float:
        return max(0.0, self._end - self._clock())

    def share_of(self, job: Job) -> float | None:
        """Return the seconds that a job may take now; None when they are too few to begin."""
        share = min(job.most_s, self.left_s)
        return share if share >= job.least_s else None
