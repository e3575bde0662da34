"""The most memory that several processes held at one moment, what they share counted once."""

import contextlib
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType

from service.supervision.exporter import shared_memory_bytes

EVERY_S = 0.1


class PeakMemory:
    """Watches the processes of a server while the block runs; a context manager, which may be entered again.

    Anonymous memory is read often, for a few microseconds a process. Pages of files (libraries, compiled models) hardly
    change once a server is warm, and who shares them takes the system a walk through all pages: read once, at the end.
    """

    def __init__(self, processes: Callable[[], Iterable[int]], mark: str) -> None:
        """`processes`: ids; `mark`: what the names of the server's shared memory begin with."""
        self._processes, self._mark = processes, mark
        self._held = self._files = 0
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def peak_bytes(self) -> int:
        return self._held + self._files

    def __enter__(self) -> "PeakMemory":
        self._ended.clear()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join(10)
        self._read()
        of_files = sum(_kibibytes(pid, "smaps_rollup", "Pss_File:") for pid in self._processes())
        self._files = max(self._files, 1024 * of_files)

    def _watch(self) -> None:
        while not self._ended.wait(EVERY_S):
            self._read()

    def _read(self) -> None:
        anonymous = sum(_kibibytes(pid, "status", "RssAnon:") for pid in self._processes())
        self._held = max(self._held, 1024 * anonymous + shared_memory_bytes(self._mark))


def _kibibytes(pid: int, file: str, name: str) -> int:
    """A line of a process's page in /proc; 0 where the process has gone or does not say."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1])
    return 0
