"""Parts of the tables, each a file: what was measured stays, and an interrupted run goes on with what is missing."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from auralsam2_client.new_file import write_new


class Part:
    """One file of figures. What another set-up measured is not gone on with."""

    def __init__(self, folder: Path, name: str, about: Mapping[str, Any]) -> None:
        """`about`: all that the figures depend on, as JSON holds it: weights, machine, counts."""
        self.path = folder / f"{name}.json"
        self.about = json.loads(json.dumps(about))
        self.found: dict[str, Any] = {}
        if self.path.is_file():
            try:
                kept = json.loads(self.path.read_text())
            except ValueError:
                kept = {}
            if kept.get("about") == self.about:
                self.found = kept["found"]

    def keep(self, key: str, value: Any) -> None:
        """Add a figure, and write all of them."""
        self.found[key] = value
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_new(self.path, json.dumps({"about": self.about, "found": self.found}, indent=1) + "\n")
