"""What a check is, and how checks are run one after the other without a test framework."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from loadtests.gpu.measuring.timing import explain

Part = Literal["kernels", "network", "training", "service", "sanitizer", "soak"]


class LeftOutError(Exception):
    """A check cannot be made here; the message says what is missing."""


@dataclass(frozen=True)
class Place:
    """Where checks are made."""

    device: str
    folder: Path
    """For builds and logs."""


@dataclass(frozen=True)
class Check:
    name: str
    part: Part
    run: Callable[[Place], None]
    """Raises AssertionError where the card computes otherwise than it should, LeftOutError where it cannot be asked."""
    small: bool = False
    """Quick enough to be made under a tool that slows a kernel a thousand times."""


@dataclass(frozen=True)
class Outcome:
    check: Check
    word: Literal["ok", "left out", "FAILED"]
    why: str = ""


def run_checks(
    checks: Iterable[Check], place: Place, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic
) -> list[Outcome]:
    """Make each check, say how it ended, and go on."""
    outcomes = []
    for check in checks:
        begun = clock()
        try:
            check.run(place)
            outcome = Outcome(check, "ok")
        except LeftOutError as error:
            outcome = Outcome(check, "left out", str(error))
        except Exception as error:  # noqa: BLE001  (a check that breaks has failed; the others are made)
            outcome = Outcome(check, "FAILED", explain(error))
        outcomes.append(outcome)
        say(f"{outcome.word:9} {check.name}, {clock() - begun:.1f} s" + (f": {outcome.why}" if outcome.why else ""))
    return outcomes
