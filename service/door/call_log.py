"""The door's log of calls, a line of JSON each: read as it grows, counted for the metrics, and rotated by size."""

import contextlib
import json
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

# Of one file; there are two at most, the one that grows and the one before.
MAX_BYTES = 8 << 20
# What is read at one look, so that a flood does not hold up the supervisor.
_MOST_READ = 4 << 20
OTHER = "other"


class CallLog:
    """Counts the calls of a log. `look` belongs to one thread; `counts` may be called from anywhere.

    Args:
        path: where the door writes.
        known: methods that are counted by name; all others together.
        reopen: tells the door to open its log again, after it was renamed.
    """

    def __init__(
        self, path: Path, known: tuple[str, ...], reopen: Callable[[], None], *, max_bytes: int = MAX_BYTES
    ) -> None:
        self.path, self._known, self._reopen, self._max_bytes = path, known, reopen, max_bytes
        self._file: IO[bytes] | None = None
        # A process of the door may still write to the one before.
        self._before: IO[bytes] | None = None
        self._rest: dict[int, bytes] = {}
        self._lock = threading.Lock()
        self._calls: Counter[tuple[str, str]] = Counter()
        self._sums: Counter[str] = Counter()
        self._skip = path.stat().st_size if path.is_file() else 0

    def counts(self) -> tuple[Counter[tuple[str, str]], Counter[str]]:
        """Return calls by (method, gRPC's status), and sums: bytes_received, bytes_sent, seconds."""
        with self._lock:
            return self._calls.copy(), self._sums.copy()

    def look(self) -> None:
        """Count what came since the last look, and rotate the log when it is large."""
        if self._file is None:
            with contextlib.suppress(OSError):
                self._file = self.path.open("rb")
                self._file.seek(self._skip)
                self._skip = 0
        for file in (self._before, self._file):
            if file is not None:
                self._read(file)
        with contextlib.suppress(OSError):
            if self._file is not None and self.path.stat().st_size > self._max_bytes:
                self.path.replace(self.path.with_name(f"{self.path.name}.1"))
                if self._before is not None:
                    self._before.close()
                self._before, self._file = self._file, None
                self._reopen()

    def close(self) -> None:
        """Count what is left, and close the files."""
        self.look()
        for file in (self._before, self._file):
            if file is not None:
                file.close()
        self._before = self._file = None

    def _read(self, file: IO[bytes]) -> None:
        text = self._rest.pop(file.fileno(), b"") + file.read(_MOST_READ)
        *lines, rest = text.split(b"\n")
        if rest:
            self._rest[file.fileno()] = rest[:_MOST_READ]
        with self._lock:
            for line in lines:
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    self._count(json.loads(line))

    def _count(self, call: dict[str, Any]) -> None:
        method = call["method"] if call["method"] in self._known else OTHER
        status = str(call["grpc_status"])
        self._calls[method.rpartition("/")[2], status if status.isdigit() and len(status) < 3 else "none"] += 1
        for name in ("bytes_received", "bytes_sent"):
            self._sums[name] += int(call[name])
        self._sums["milliseconds"] += round(1e3 * float(call["seconds"]))
