"""Faults of processes: killed, and stopped for a moment or for good."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from auralsam2_client.contract import STAGE_NAMES
from loadtests.chaos.around import Around
from loadtests.chaos.fault import Fault

MOMENT_S = 0.3


def _signalled(*words: str, number: signal.Signals) -> Callable[[Around], AbstractContextManager[None]]:
    @contextmanager
    def hold(around: Around) -> Iterator[None]:
        for process in around.processes(*words)[:1]:
            os.kill(process.pid, number)
        yield

    return hold


@contextmanager
def _stopped_for_a_moment(around: Around) -> Iterator[None]:
    for process in around.processes("/hiera/1/model.py")[:1]:
        process.suspend()
        time.sleep(MOMENT_S)
        process.resume()
    yield


FAULTS = (
    *(Fault(f"{name} killed", _signalled(f"/{name}/1/model.py", number=signal.SIGKILL)) for name in STAGE_NAMES),
    Fault("server killed", _signalled("tritonserver", number=signal.SIGKILL)),
    Fault("guardian killed", _signalled("guardian.py", number=signal.SIGKILL)),
    Fault("hiera stopped", _signalled("/hiera/1/model.py", number=signal.SIGSTOP)),
    Fault("server stopped", _signalled("tritonserver", number=signal.SIGSTOP)),
    Fault(f"hiera stopped for {MOMENT_S} s", _stopped_for_a_moment),
)
