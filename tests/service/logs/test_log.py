"""The log of `serve`: all of it in the file, what a person needs on standard error, and neither can end the service."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from service.logs.events import SERVER, Event
from service.logs.log import Log


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(("form", "shown"), [("text", "Z supervisor: ready"), ("json", '"event": "ready"')])
def test_the_file_has_everything_and_is_json_whatever_is_shown(form: str, shown: str, tmp_path: Path) -> None:
    lines: list[str] = []
    with Log(form, tmp_path / "log", lines.append) as log:
        log.tell(Event(SERVER, "I1127 loaded", quiet=True))
        log.tell(Event("ready", "ready"))
    (line,) = lines
    assert shown in line
    assert [each["event"] for each in read(tmp_path / "log")] == ["server", "ready"]
    log.tell(Event("late", "nobody writes it any more"))


def test_a_terminal_that_is_gone_ends_nothing(tmp_path: Path) -> None:
    def gone(line: str) -> None:
        raise BrokenPipeError

    with Log("text", tmp_path / "log", gone) as log:
        log.tell(Event("ready", "ready"))
    assert len(read(tmp_path / "log")) == 1


def test_a_full_disk_is_said_once_and_what_was_lost_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []

    def full(file: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with Log("text", tmp_path / "log", lines.append) as log:
        with monkeypatch.context() as patched:
            patched.setattr(os, "write", full)
            for _ in range(3):
                log.tell(Event("note", "quiet", quiet=True))
        log.tell(Event("note", "again", quiet=True))
    (line,) = lines
    assert line.endswith("cannot be written: No space left on device")
    assert [(each["event"], each.get("lines")) for each in read(tmp_path / "log")] == [("lost", 3), ("note", None)]
