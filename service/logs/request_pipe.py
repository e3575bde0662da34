"""The pipe in which the stages of one launch say what became of each request, and the thread that reads it."""

import contextlib
import json
import os
import threading

from auralsam2_client.contract import StageRecord, requests_path
from service.logs.events import Tell
from service.logs.requests import Requests

MAX_LINE = 4096
_TEXTS = ("key", "request", "stage", "round", "caller", "mode", "reason")
_NUMBERS = ("ms", "total_ms", "frames", "lost")
_SWITCHES = ("ends", "session", "golden")


class RequestPipe:
    """Makes the pipe before the server starts, and tells of each request until `close`.

    For this user alone. A stage never waits for it: what it has no room for is lost, and counted.
    """

    def __init__(self, mark: str, tell: Tell) -> None:
        """Raises: OSError where it cannot be made."""
        self._path = requests_path(mark)
        os.mkfifo(self._path, 0o600)
        # Open for writing, too, so that it has no end when no stage lives, and `close` can wake the reader.
        self._pipe = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        self._closed = False
        self._requests = Requests(tell)
        self._thread = threading.Thread(target=self._read, name="requests", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Read what is in it, then end. May be called twice."""
        if self._closed:
            return
        self._closed = True
        os.set_blocking(self._pipe, False)
        with contextlib.suppress(BlockingIOError):
            os.write(self._pipe, b"\n")
        self._thread.join(5)
        os.close(self._pipe)
        self._path.unlink(missing_ok=True)

    def _read(self) -> None:
        rest = b""
        while True:
            try:
                *lines, rest = (rest + os.read(self._pipe, 1 << 16)).split(b"\n")
            except BlockingIOError:
                return
            # Each stage writes whole lines.
            rest = rest[:MAX_LINE]
            for line in lines:
                if record := read_record(line):
                    self._requests(record)


def read_record(line: bytes) -> StageRecord | None:
    """Read what a stage wrote; None for what is no record of ours: some other process of this user wrote it."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    if not isinstance(found, dict) or not {"key", "request", "stage", "ms"} <= found.keys():
        return None
    stages = found.get("stages", {})
    good = (
        all(isinstance(found.get(name, ""), str) for name in _TEXTS)
        and all(isinstance(found.get(name, 0), int | float) for name in _NUMBERS)
        and all(isinstance(found.get(name, False), bool) for name in _SWITCHES)
        and isinstance(stages, dict)
        and all(isinstance(taken, int | float) for taken in stages.values())
    )
    record: StageRecord | None = found if good else None  # type: ignore[assignment]
    return record
