"""The service on a card: exported for it, served, and asked."""

import pytest

from loadtests.gpu.checks.check import Check
from loadtests.gpu.checks.service_checks import service_checks
from tests.cards.on_card import by_name, run_check

# What libraries of a card warn of is not ours. An export compiles for minutes.
pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("default"), pytest.mark.timeout(1800)]


@pytest.mark.parametrize("check", service_checks(), ids=by_name)
def test_on_the_card(check: Check) -> None:
    run_check(check)
