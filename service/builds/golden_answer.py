"""A right answer at rest: reference and tolerance of each output, and the comparison of a reply with them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auralsam2_client.calls.wire import Arrays
from auralsam2_client.errors import ConfigError

REMEDY = "Run `auralsam2 doctor`, then export the build again: auralsam2 export."


class WrongAnswer(ConfigError):
    """A golden request was answered otherwise than by the network. `path` is the way that the request took."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(message)
        self.path = path


@dataclass(frozen=True, eq=False)
class GoldenAnswer:
    """What the network itself answers, by output, and the largest absolute difference of any element."""

    reference: Arrays
    tolerance: dict[str, float]

    def not_finite(self) -> str | None:
        """Name an output whose reference or tolerance is of no use; None where all are."""
        for name, wanted in self.reference.items():
            if not (np.isfinite(wanted).all() and 0 < self.tolerance[name] < np.inf):
                return f"{name} or its tolerance {self.tolerance[name]}"
        return None

    def check(self, reply: Arrays, path: str, told: str) -> float:
        """Compare a reply with the reference, output by output; return the largest difference in tolerances.

        Args:
            path: of the request; `told`: the same in a message, with the round of a session.
        Raises: WrongAnswer naming dtype, shape, or the worst element when the reply is not the network's.
        """
        return max(self._check_output(name, reply[name], path, told) for name in self.reference)

    def _check_output(self, name: str, value: NDArray[Any], path: str, told: str) -> float:
        wanted, tolerance = self.reference[name], self.tolerance[name]
        if value.dtype != np.float32 or value.shape != wanted.shape:
            raise WrongAnswer(
                path,
                f"Golden clip by {told}: {name} came as {value.dtype} {list(value.shape)}; "
                f"must be float32 {list(wanted.shape)}. {REMEDY}",
            )
        if not np.isfinite(value).all():
            num_bad = int((~np.isfinite(value)).sum())
            raise WrongAnswer(path, f"Golden clip by {told}: {name} is not finite in {num_bad} places. {REMEDY}")
        difference = np.abs(value - wanted)
        worst = tuple(int(i) for i in np.unravel_index(int(difference.argmax()), difference.shape))
        if difference[worst] > tolerance:
            zeros = " Every byte is zero: numpy 2 in the server environment does that; it must be below 2."
            raise WrongAnswer(
                path,
                f"Golden clip by {told}: {name} is {value[worst]:.6g} at {worst}, the reference {wanted[worst]:.6g}; "
                f"max abs {difference[worst]:.3g}, tolerance {tolerance:.3g}. {REMEDY}{'' if value.any() else zeros}",
            )
        return float(difference[worst]) / tolerance
