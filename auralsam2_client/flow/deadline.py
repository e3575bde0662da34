"""The time that a call has: its budget, what is left of it, and the pauses between tries."""

import random
import time
from collections.abc import Callable, Iterator

from auralsam2_client.errors import BadInput, ServerTimeout

RETRY_BASE_S, RETRY_CAP_S = 0.1, 2.0


def check_settings(timeout_s: float, retries: int) -> None:
    """Check what a client is made with. Raises: BadInput that names the value and its limits."""
    choose_budget(timeout_s, None)
    if not 0 <= retries <= 10:
        raise BadInput(f"retries = {retries}; must be 0 to 10. More would only add load to a server in trouble.")


def choose_budget(default_s: float, timeout_s: float | None) -> float:
    """Choose the seconds that a call has: its own, or the client's. Raises: BadInput outside (0, 86400]."""
    budget_s = default_s if timeout_s is None else timeout_s
    if not 0 < budget_s <= 86400:
        raise BadInput(f"timeout_s = {budget_s!r}; must be above 0, at most 86400. Every call has a deadline.")
    return budget_s


def time_left(deadline: float, budget_s: float) -> float:
    """Count the seconds until `deadline`, which is on the clock of `time.monotonic`.

    Raises: ServerTimeout when none are left; its message names `budget_s`.
    """
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        raise ServerTimeout(f"{budget_s:g} s were over before the clip was sent. Give the call a longer timeout_s.")
    return left_s


def pauses(retries: int, comes_back: Callable[[], bool] = lambda: False) -> Iterator[float | None]:
    """Draw the pause after each try that fails, from 0 to a bound that doubles; None after the last try.

    Args:
        comes_back: asked after the last try; while it is true there is another, after a pause of a second or two.
    """
    for attempt in range(retries):
        yield random.uniform(0, min(RETRY_CAP_S, RETRY_BASE_S * 2**attempt))  # spreads callers out, hides nothing
    while comes_back():
        yield random.uniform(RETRY_CAP_S / 2, RETRY_CAP_S)
    yield None
