"""How much of the load is on at which time of a run: a share from 0 to 1 over the run's own time from 0 to 1."""

from collections.abc import Callable, Iterator
from random import Random

from auralsam2_client.errors import BadInput


def _steady(at: float) -> float:
    return 1.0


def _ramp(at: float) -> float:
    """In ten steps from a tenth to all."""
    return min(10, int(10 * at) + 1) / 10


def _spike(at: float) -> float:
    """A quarter of the load, and in the middle third all of it at once."""
    return 1.0 if 1 / 3 <= at < 2 / 3 else 0.25


SCENARIOS: dict[str, Callable[[float], float]] = {
    "steady": _steady,
    "ramp": _ramp,
    "spike": _spike,
    # As steady; the run is long, and memory, files and shared memory are watched.
    "soak": _steady,
}


def is_steady(scenario: str) -> bool:
    """Tell whether all of the load is on all of the time, so that a run needs no end."""
    return SCENARIOS[scenario] is _steady


def share_at(scenario: str, at: float) -> float:
    """Return the share of the users that call at a moment, 0 to 1. Raises: BadInput for an unknown scenario."""
    if scenario not in SCENARIOS:
        raise BadInput(f"scenario = {scenario!r}; must be one of {', '.join(SCENARIOS)}.")
    return SCENARIOS[scenario](at)


def arrivals(rate: float, duration_s: float, scenario: str = "steady", seed: int = 8) -> Iterator[float]:
    """Draw the seconds from the start at which requests are due: a Poisson stream, as of independent callers.

    Args:
        rate: requests a second where the scenario's share is 1.
        duration_s: may be infinite where the scenario is steady.
    """
    random, now = Random(seed), 0.0
    while True:
        # Thinning: a stream of the full rate, of which the share of that moment is kept.
        now += random.expovariate(rate)
        if now >= duration_s:
            return
        if random.random() < share_at(scenario, now / duration_s):
            yield now
