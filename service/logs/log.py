"""The log of `serve`: every event in the file that rotates, what a person needs to see on standard error."""

import contextlib
import sys
import threading
from pathlib import Path
from types import TracebackType

from service.logs.events import WARNING, Event, Sink, as_json, as_text
from service.logs.rotating_file import RotatingFile

TEXT, JSON = "text", "json"
FORMATS = {TEXT: as_text, JSON: as_json}


def to_stderr(line: str) -> None:
    """Print a line on standard error at once."""
    print(line, file=sys.stderr, flush=True)


class Log:
    """Takes events from any thread; a context manager.

    Args:
        form: "text" or "json", of what goes to `sink`; the file is JSON.
        file: where every event goes, bounded in size; None: nowhere.
        sink: takes the lines of events that are not quiet.
    Raises: ConfigError where the file cannot be written.
    """

    def __init__(self, form: str = TEXT, file: Path | None = None, sink: Sink = to_stderr) -> None:
        self._write, self._sink = FORMATS[form], sink
        self._file = None if file is None else RotatingFile(file)
        self._lock = threading.Lock()
        self._num_lost = 0

    def __enter__(self) -> "Log":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            if self._file is not None:
                self._file.close()
            self._file = None

    def tell(self, event: Event) -> None:
        """Write an event. A disk that is full, or a terminal that is gone, ends nothing."""
        with self._lock:
            self._keep(event)
            if not event.quiet:
                self._show(event)

    def _show(self, event: Event) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._sink(self._write(event))

    def _keep(self, event: Event) -> None:
        if self._file is None:
            return
        try:
            if self._num_lost:
                words = f"{self._num_lost} lines before this one could not be written to the file"
                self._file.write(as_json(Event("lost", words, {"lines": self._num_lost}, WARNING)))
                self._num_lost = 0
            self._file.write(as_json(event))
        except OSError as error:
            if not self._num_lost:
                self._show(Event("lost", f"{self._file.path} cannot be written: {error.strerror}", level=WARNING))
            self._num_lost += 1
