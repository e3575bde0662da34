"""What a fault is: something that is done to a running service, and undone."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from loadtests.chaos.around import Around


@dataclass(frozen=True)
class Fault:
    """One fault. It is there while the block that `holds` gives is entered; one that is over at once does all on entry.

    `seconds`: for how long it is held. `least_answered`: the share of the other calls that is answered all the same.
    """

    name: str
    holds: Callable[[Around], AbstractContextManager[None]]
    seconds: float = 0.0
    least_answered: float = 0.0
