"""Linters of the extra `dev`, run as programs."""

import subprocess
import sys
from pathlib import Path

TOOLS = Path(sys.executable).parent


def tool(name: str, *arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program of this environment, `given` on its standard input."""
    path = TOOLS / name
    assert path.exists(), f"{name} is not installed; it comes with the extra `dev`"
    return subprocess.run([path, *arguments], input=given, capture_output=True, text=True, check=False)
