"""What became of each request, told to the launcher, which makes one line of it for its log.

A pipe in shared memory, not the server's log: a record is written whole or not at all, never waits, and nothing that a
caller chooses can look like one. Five microseconds a record.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from auralsam2_client.contract import LAUNCH_VARIABLE, StageRecord, requests_path

from .asker import LOCAL, Asker

# A pipe takes up to 4096 bytes at once, all or none. Escaped, an id of 128 letters is 1536.
MAX_ID, MAX_RECORD_BYTES = 128, 4096


class RequestLine:
    """The records of one stage. Without a launcher that listens, it says nothing."""

    def __init__(self, stage: str, path: Path | None = None) -> None:
        """`path`: of the pipe; None is that of the launch which this process belongs to."""
        self._stage, self._num_lost = stage, 0
        path = requests_path(os.environ.get(LAUNCH_VARIABLE, "")) if path is None else path
        try:
            self._pipe: int | None = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            self._pipe = None

    def tell(self, key: str, asker: Asker, seconds: float, more: StageRecord) -> None:
        """Say that the stage is done with a request, `seconds` after it came.

        Args:
            key: by what the service knows the request; "" of one that was not let in.
            more: the rest of the record.
        """
        if self._pipe is None:
            return
        record: StageRecord = {"key": key, "request": asker.request[:MAX_ID], "stage": self._stage}
        record["ms"] = round(1e3 * seconds, 3)
        if asker.caller != LOCAL:
            record["caller"] = asker.caller
        if asker.golden:
            record["golden"] = True
        if asker.round:
            record["round"] = asker.round
        record.update(more)
        if self._num_lost:
            record["lost"] = self._num_lost
        data = json.dumps(record, separators=(",", ":")).encode() + b"\n"
        try:
            if len(data) > MAX_RECORD_BYTES:
                raise ValueError(len(data))
            os.write(self._pipe, data)
            self._num_lost = 0
        except (OSError, ValueError):
            # Full, since nobody empties it, or gone with the launcher: a clip is worth more than its line.
            self._num_lost += 1


def milliseconds(seconds: Mapping[str, float]) -> dict[str, float]:
    """Give seconds by stage as a record has them."""
    return {stage: round(1e3 * each, 3) for stage, each in seconds.items()}
