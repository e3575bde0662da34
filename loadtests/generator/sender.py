"""Sends prepared clips over a channel of its own and says how each of them ended. Under gevent or threads."""

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass

import tritonclient.grpc as blocking

from auralsam2_client.calls.address import parse_address
from auralsam2_client.calls.wire import CHANNEL_OPTIONS
from auralsam2_client.calls.wire_errors import WIRE_ERRORS, translate
from auralsam2_client.errors import AuralServeError
from loadtests.generator.modes import Mode, Prepared

OK = "OK"


@dataclass(frozen=True)
class Outcome:
    """What became of one request. Times are seconds of the epoch."""

    id: str
    due_s: float
    sent_s: float
    done_s: float
    code: str  # OK, or gRPC's name of the status
    error: str = ""

    @property
    def latency_s(self) -> float:
        """From the time at which it was due, so that a generator that falls behind shows."""
        return self.done_s - self.due_s

    @property
    def answer_s(self) -> float:
        """From the time at which it was sent."""
        return self.done_s - self.sent_s


class Sender:
    """One caller. A channel is one connection: gRPC would share it between callers of one process."""

    _numbers = itertools.count()

    def __init__(self, url: str, mode: Mode, prepared: Sequence[Prepared], *, timeout_s: float) -> None:
        self._url, self._model, self._prepared, self._timeout_s = parse_address(url), mode.model, prepared, timeout_s
        self._name = f"load-{next(self._numbers)}"
        self._count = 0
        options = [*CHANNEL_OPTIONS, ("grpc.use_local_subchannel_pool", 1)]
        self._wire = blocking.InferenceServerClient(self._url, channel_args=options)

    def send(self, due_s: float | None = None) -> tuple[Outcome, AuralServeError | None]:
        """Send the next clip and wait for its end. An answer that bears another id than was asked is a failure."""
        inputs, outputs = self._prepared[self._count % len(self._prepared)]
        self._count += 1
        request_id = f"{self._name}-{self._count}"
        sent_s = time.time()
        code, failure = OK, None
        try:
            result = self._wire.infer(
                self._model,
                inputs,
                outputs=outputs,
                request_id=request_id,
                client_timeout=self._timeout_s,
                timeout=int(1e6 * self._timeout_s),
            )
            if result.get_response().id != request_id:
                code = "WRONG_ID"
        except WIRE_ERRORS as error:
            failure = translate(error, url=self._url, timeout_s=self._timeout_s)
            code = status_name(error)
        outcome = Outcome(
            request_id, sent_s if due_s is None else due_s, sent_s, time.time(), code, str(failure or "")[:300]
        )
        return outcome, failure

    def close(self) -> None:
        self._wire.close()


def status_name(error: Exception) -> str:
    """Return gRPC's name of the status that an error of the wire carries."""
    status = getattr(error, "status", None)
    return str(status() or "").rpartition(".")[2] or "NO_STATUS" if callable(status) else "NO_STATUS"
