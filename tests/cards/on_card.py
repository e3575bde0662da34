"""Tests of a card, marked `gpu`: left out with one reason where there is none, and where nobody asks for them.

There is one card for all workers of `make test`, so a command of its own runs them, one after the other.
"""

from collections.abc import Sequence
from pathlib import Path

import pytest

from loadtests.gpu.checks.check import Check, LeftOutError, Place

REASON = "needs a CUDA card: make test-gpu"
FOLDER = Path("out/test-gpu")


def leave_out_without_a_card(items: Sequence[pytest.Item], *, asked: bool, card: bool) -> None:
    """Mark them as skipped, unless they are asked for (`-m gpu`) and there is a card."""
    if asked and card:
        return
    for item in items:
        if item.get_closest_marker("gpu") is not None:
            item.add_marker(pytest.mark.skip(reason=REASON))


def run_check(check: Check) -> None:
    """Make a check on the card; what cannot be asked here is skipped with the reason."""
    try:
        check.run(Place("cuda", FOLDER))
    except LeftOutError as error:
        pytest.skip(str(error))


def by_name(check: Check) -> str:
    return check.name
