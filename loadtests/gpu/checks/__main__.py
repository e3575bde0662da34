"""`python -m loadtests.gpu.checks`: the checks of a card one after the other, where there is no pytest."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import torch

from loadtests.gpu.checks.check import Check, LeftOutError, Part, Place, run_checks
from loadtests.gpu.measuring.card import NO_CARD
from loadtests.gpu.measuring.timing import explain

NO_CARD_CODE = 3


def list_checks(parts: Sequence[Part], soak_s: float = 0.0) -> list[Check]:
    """List the checks of some parts. A part whose packages are missing is one check that says so."""
    checks: list[Check] = []
    for part in parts:
        try:
            checks += _of_part(part, soak_s)
        except ImportError as error:
            checks.append(_missing(part, error))
    return checks


def _of_part(part: Part, soak_s: float) -> list[Check]:
    if part == "kernels":
        from loadtests.gpu.checks.kernel_checks import kernel_checks

        return kernel_checks()
    if part == "network":
        from loadtests.gpu.checks.network_checks import network_checks

        return network_checks()
    if part == "training":
        from loadtests.gpu.checks.training_checks import training_checks

        return training_checks()
    if part == "sanitizer":
        from loadtests.gpu.checks.sanitizer_checks import sanitizer_checks

        return sanitizer_checks()
    from loadtests.gpu.checks.service_checks import service_checks, soak_checks

    return service_checks() if part == "service" else soak_checks(soak_s)


def _missing(part: Part, error: ImportError) -> Check:
    why = explain(error)

    def leave_out(place: Place) -> None:
        raise LeftOutError(why)

    return Check(part, part, leave_out)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtests.gpu.checks", description=__doc__)
    parser.add_argument(
        "--only", nargs="+", choices=get_args(Part), default=get_args(Part), help="parts to run; default: all"
    )
    parser.add_argument("--small", action="store_true", help="the quick ones alone, as compute-sanitizer makes them")
    parser.add_argument(
        "--soak-s", type=float, default=0.0, help="seconds of load on the service; 0: none; default: %(default)s"
    )
    parser.add_argument(
        "--folder", type=Path, default=Path("out/test-gpu"), help="for builds and logs; default: %(default)s"
    )
    parser.add_argument(
        "--device",
        choices=("cuda", "cpu"),
        default="cuda",
        help="cpu: to try the checks themselves; default: %(default)s",
    )
    given = parser.parse_args(arguments)
    if given.device == "cuda" and not torch.cuda.is_available():
        print(NO_CARD, file=sys.stderr)
        return NO_CARD_CODE
    checks = [check for check in list_checks(given.only, given.soak_s) if check.small or not given.small]
    outcomes = run_checks(checks, Place(given.device, given.folder), lambda line: print(line, flush=True))
    count = {word: sum(outcome.word == word for outcome in outcomes) for word in ("ok", "left out", "FAILED")}
    print(", ".join(f"{number} {word}" for word, number in count.items()))
    return 1 if count["FAILED"] else 0


if __name__ == "__main__":
    sys.exit(main())
