"""The golden clip of a build: what the served model must answer, to the tolerance that export measured."""

import hashlib
import threading
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auralsam2_client.calls.client import Client
from auralsam2_client.calls.wire import Arrays
from auralsam2_client.contract import RESULTS
from auralsam2_client.errors import AuralServeError, ConfigError, ServerFault

REMEDY = "Run `auralsam2 doctor`, then export the build again: auralsam2 export."


@dataclass(frozen=True, eq=False)
class Golden:
    """The golden clip of a build: its tensors, the reference answer and the tolerances."""

    frames: NDArray[np.uint8]  # [T, S, S, 3]
    audio: NDArray[np.float32]  # [T, 15600, 2]
    # By output: what the network itself answers. All four, because an empty mask says nothing about its logits.
    reference: Arrays
    tolerance: dict[str, float]  # largest absolute difference of any element, by output

    @classmethod
    def load(cls, build: Path) -> "Golden":
        """Read `golden.npz`. Raises: ConfigError when it is absent, damaged, or not finite."""
        path = build / "golden.npz"
        try:
            with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                reference = {name: file[name] for name in RESULTS}
                tolerance = {name: float(file[f"TOLERANCE_{name}"]) for name in RESULTS}
                golden = cls(file["FRAMES"], file["AUDIO"], reference, tolerance)
        except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise ConfigError(f"{path} cannot be read: {error}. Export the build again: auralsam2 export.") from error
        for name in RESULTS:
            if not (np.isfinite(golden.reference[name]).all() and 0 < golden.tolerance[name] < np.inf):
                raise ConfigError(
                    f"{path}: {name} or its tolerance {golden.tolerance[name]} is not finite and positive. {REMEDY}"
                )
        return golden

    def check(self, reply: Arrays) -> float:
        """Compare a reply with the reference, output by output; return the largest difference in tolerances.

        Raises: ConfigError naming dtype, shape, or the worst element when the reply is not the network's.
        """
        return max(self._check_output(name, reply[name]) for name in RESULTS)

    def _check_output(self, name: str, value: NDArray[Any]) -> float:
        wanted, tolerance = self.reference[name], self.tolerance[name]
        if value.dtype != np.float32 or value.shape != wanted.shape:
            raise ConfigError(
                f"Golden clip: {name} came as {value.dtype} {list(value.shape)}; "
                f"must be float32 {list(wanted.shape)}. {REMEDY}"
            )
        if not np.isfinite(value).all():
            raise ConfigError(
                f"Golden clip: {name} is not finite in {int((~np.isfinite(value)).sum())} places. {REMEDY}"
            )
        difference = np.abs(value - wanted)
        worst = tuple(int(i) for i in np.unravel_index(int(difference.argmax()), difference.shape))
        if difference[worst] > tolerance:
            zeros = " Every byte is zero: numpy 2 in the server environment does that; it must be below 2."
            raise ConfigError(
                f"Golden clip: {name} is {value[worst]:.6g} at {worst}, the reference {wanted[worst]:.6g}; "
                f"max abs {difference[worst]:.3g}, tolerance {tolerance:.3g}. {REMEDY}{'' if value.any() else zeros}"
            )
        return float(difference[worst]) / tolerance


class GoldenCall:
    """The golden clip on its way, in a thread, so that the caller can watch the server's processes meanwhile."""

    def __init__(self, golden: Golden, client: Client, timeout_s: float) -> None:
        self.duration_s = 0.0
        self._reply: Arrays | None = None
        self._error: AuralServeError | None = None
        self._thread = threading.Thread(target=self._run, args=(golden, client, timeout_s), daemon=True)
        self._thread.start()

    def done(self, within_s: float) -> bool:
        """Tell whether the call has ended, with a reply or an error."""
        self._thread.join(within_s)
        return not self._thread.is_alive()

    def reply(self) -> Arrays:
        """Return the reply of a call that is done. Raises: what the call met."""
        if self._error is not None:
            raise self._error
        assert self._reply is not None, "ask done() first"
        return self._reply

    def _run(self, golden: Golden, client: Client, timeout_s: float) -> None:
        started = time.monotonic()
        try:
            self._reply = client.infer(golden.frames, golden.audio, outputs=RESULTS, timeout_s=timeout_s)
        except AuralServeError as error:
            self._error = error
        except Exception as error:  # noqa: BLE001 - a thread's error would be lost, and the caller would wait for ever
            self._error = ServerFault(f"The golden clip could not be sent: {error!r}. This is a bug of the client.")
        self.duration_s = time.monotonic() - started


def digest(reply: Arrays) -> str:
    """Hash the bytes of a reply with sha256, in the order of the outputs' names."""
    total = hashlib.sha256()
    for name in sorted(reply):
        total.update(name.encode() + np.ascontiguousarray(reply[name]).tobytes())
    return total.hexdigest()
