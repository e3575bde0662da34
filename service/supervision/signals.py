"""What signals ask of a supervisor that has the main thread."""

import signal
from types import FrameType

from service.supervision.supervisor import Supervisor

INTERRUPTED = 130


def serve(supervisor: Supervisor) -> int:
    """Run as `Supervisor.run` does; SIGTERM or SIGINT asks for a gentle stop, a second one for an immediate stop.

    For the main thread. Returns the exit code, INTERRUPTED after an immediate stop. Raises: as `run`.
    """
    told = False

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal told
        if told:
            raise KeyboardInterrupt
        told = True
        supervisor.request_stop()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        return supervisor.run()
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
