"""The network on a card, as one graph, against eager float32; and training there against the CPU."""

import pytest

from loadtests.gpu.checks.check import Check
from loadtests.gpu.checks.network_checks import network_checks
from loadtests.gpu.checks.training_checks import training_checks
from tests.cards.on_card import by_name, run_check

# What libraries of a card warn of is not ours.
pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("default")]


@pytest.mark.parametrize("check", [*network_checks(), *training_checks()], ids=by_name)
def test_on_the_card(check: Check) -> None:
    run_check(check)
