"""When a run's checkpoint is written: every so often, at the end of each phase, and when the run is interrupted."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from auralsam2.training import run_folder
from auralsam2.training.run.interruption import hold_signals
from auralsam2.training.settings import TrainSettings


class Saver:
    """Writes the checkpoints of one run, and knows the last good one."""

    def __init__(self, folder: Path, settings: TrainSettings, every_s: float, on_found: Callable[[str], None]) -> None:
        self.folder, self.settings, self.every_s, self.on_found = folder, settings, every_s, on_found
        self.path = folder / run_folder.CHECKPOINT
        self._saved_s = time.monotonic()
        self._done: str | None = None

    @property
    def due(self) -> bool:
        """Whether the last one, or the start of this session, is long enough ago."""
        return time.monotonic() - self._saved_s >= self.every_s

    @property
    def last_good(self) -> str:
        """Name the folder's checkpoint and what it holds, for an error."""
        return "none yet" if self._done is None else f"{self.path} ({self._done})"

    def found(self, done: str) -> None:
        """Note, and tell, what the checkpoint holds with which this session begins."""
        self._done = done
        self.on_found(done)

    def save(self, state: dict[str, Any], done: str) -> None:
        """Write a checkpoint, whole or not at all.

        Raises: CheckpointError when a value is not finite; the last good one stays.
        """
        with hold_signals():
            run_folder.save_checkpoint(self.folder, self.settings, state)
        self._saved_s, self._done = time.monotonic(), done
