"""The kernels on a card, against float64."""

import pytest

from loadtests.gpu.checks.check import Check
from loadtests.gpu.checks.kernel_checks import kernel_checks
from loadtests.gpu.checks.sanitizer_checks import sanitizer_checks
from tests.cards.on_card import by_name, run_check

# What libraries of a card warn of is not ours.
pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("default")]


@pytest.mark.parametrize("check", [*kernel_checks(), *sanitizer_checks()], ids=by_name)
def test_on_the_card(check: Check) -> None:
    run_check(check)
