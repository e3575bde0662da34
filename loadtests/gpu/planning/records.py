"""The record of a bench, one JSON file: what was measured of this code on this card is not measured again."""

import hashlib
import json
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from auralsam2_client.new_file import write_new

ROOT = Path(__file__).resolve().parents[3]
MEASURED_ROOMS = ("kernels", "auralsam2", "export", "model_repository", "service", "loadtests/gpu")
Record = dict[str, Any]
REASON = "reason"


def code_digest(root: Path = ROOT, rooms: Iterable[str] = MEASURED_ROOMS) -> str:
    """Compute twelve digits that tell apart the code that is measured, also where there is no git."""
    digest = hashlib.sha256()
    for path in sorted(path for room in rooms for path in (root / room).rglob("*.py")):
        digest.update(f"{path.relative_to(root)} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()[:12]


def commit(root: Path = ROOT) -> str:
    """Ask git for the commit, "no git" where it cannot say."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=root, capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return "no git"
    return done.stdout.strip()


class Results:
    """The rows of one code on one card, kept in a file that is written after every change.

    Args:
        identity: what has to be the same for rows of an earlier run to stay: card, driver, code.
        again: forget them all the same.
    """

    def __init__(self, path: Path, identity: Record, *, again: bool = False) -> None:
        self._path, self.identity = path, identity
        self.rows: dict[str, Record] = {}
        found = {} if again else _read(path)
        if found.get("identity") == identity:
            self.rows = dict(found["rows"])

    def has(self, key: str) -> bool:
        """Tell whether a row was measured; one that could not run is tried again."""
        return key in self.rows and REASON not in self.rows[key]

    def keep(self, key: str, record: Record) -> None:
        """Write a row, unless it is a reason for one that has figures."""
        if REASON in record and self.has(key):
            return
        self.rows[key] = record
        self.write({})

    def write(self, more: Record) -> None:
        """Write the file whole or not at all, with `more` beside the rows."""
        write_new(self._path, json.dumps({"identity": self.identity, **more, "rows": self.rows}, indent=1) + "\n")


def _read(path: Path) -> Record:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and isinstance(found.get("rows"), dict) else {}
