"""The batches that an evaluation has scored, on disk as they come, so that the same command goes on after a stop."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from auralsam2.errors import NetworkError
from auralsam2.evaluation.tallies import Batch

SUFFIX = ".partial"


def identify(path: Path) -> list[Any]:
    """Tell a file from others, and from itself after it was written again, without reading it."""
    status = path.stat()
    return [str(path.resolve()), status.st_size, status.st_mtime_ns]


class FileJournal:
    """A file of lines: first what the run is, then a batch a line. Where nothing is added, no file is made."""

    def __init__(self, out: Path, about: Mapping[str, Any]) -> None:
        """Read what an earlier run of the same kind has kept; what a kill left half-written is dropped.

        Args:
            out: where the figures will lie; the file lies beside it.
            about: what the figures depend on, as JSON. Another run has another file.
        Raises: NetworkError when a file that is there cannot be read.
        """
        self._head = json.dumps({"about": about}, sort_keys=True)
        self.path = out.with_name(f"{out.name}.{hashlib.sha256(self._head.encode()).hexdigest()[:8]}{SUFFIX}")
        self._kept: dict[str, dict[tuple[str, ...], Batch]] = {}
        try:
            self._num_bytes = self._read() if self.path.is_file() else 0
        except OSError as error:
            raise NetworkError(f"{self.path} cannot be read: {error}. Remove it, to start over.") from error

    @property
    def num_clips(self) -> int:
        """How many clips were scored before."""
        return sum(len(clips) for batches in self._kept.values() for clips in batches)

    def find(self, split: str) -> Mapping[tuple[str, ...], Batch]:
        """Return the batches of a split by the names of their clips."""
        return self._kept.get(split, {})

    def add(self, split: str, batch: Batch) -> None:
        """Write one more batch. Raises: NetworkError when the file cannot be written."""
        line = json.dumps({"split": split, "batch": asdict(batch)}) + "\n"
        text = line if self._num_bytes else f"{self._head}\n{line}"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # A link that lies there is not followed.
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
            with os.fdopen(handle, "r+b") as file:
                file.truncate(self._num_bytes)
                file.seek(self._num_bytes)
                file.write(text.encode())
        except OSError as error:
            raise NetworkError(
                f"{self.path} cannot be written: {error}. Free space, or let the figures lie in another folder."
            ) from error
        self._num_bytes += len(text.encode())

    def remove(self) -> None:
        """Remove the file, when the figures are written."""
        self.path.unlink(missing_ok=True)

    def _read(self) -> int:
        """Take what the file holds; the bytes of its whole lines."""
        num_bytes = 0
        with self.path.open("rb") as file:
            for number, line in enumerate(file):
                try:
                    record = json.loads(line) if line.endswith(b"\n") else {}
                    if number == 0 and line.decode() != f"{self._head}\n":
                        break
                    if number:
                        batch = Batch.from_json(record["batch"])
                        self._kept.setdefault(record["split"], {})[batch.clips] = batch
                except (ValueError, KeyError, TypeError):
                    break
                num_bytes += len(line)
        return num_bytes
