"""The container without Docker: its entry point is run as it is.

What a container surrounds the entry point with is set up around the script: a repository and a file system that cannot
be written are mounts in a namespace of its own, who it runs as and which cards it sees are programs first on PATH.
"""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
CONTAINER = ROOT / "service" / "container"
ENTRYPOINT = CONTAINER / "entrypoint.sh"
TOOLS = Path(sys.executable).parent
USAGE, IS_ROOT, NO_BUILD, STOPPED = 64, 77, 78, 143

# In place of the command line tool: says what it was called with; as `export` it makes a build, or what it is told to.
STUB = """#!/usr/bin/env bash
echo "$*" >> "$STUB_LOG"
if [[ $1 == engines ]]; then
    echo "built      hiera"
    case ${STUB_ENGINES:-good} in
        bad) echo "error: no card" >&2; exit 3 ;;
        slow) mkdir "$3/.engines-1"; sleep 1; rmdir "$3/.engines-1" ;;
        endless) mkdir "$3/.engines-2"; sleep 300 ;;
    esac
fi
[[ $1 == serve ]] && echo "ready timeout ${AURALSAM2_READY_TIMEOUT_S:-of the server}"
[[ $1 == export ]] || exit 0
out=${!#}
partial=$(dirname "$out")/.$(basename "$out").partial-$$
mkdir -p "$partial"
echo "exported   one of four"
case ${STUB_EXPORT:-good} in
    good) ;;
    slow) sleep 1 ;;
    endless) sleep 300 & sleep 300 ;;
    bad) echo "error: no space" >&2; exit 3 ;;
esac
touch "$partial/manifest.json"
mv "$partial" "$out"
"""
CARDS = {
    "none": "exit 9",
    "one": "echo 'NVIDIA L4, 8.9'",
    "twins": "echo 'NVIDIA L4, 8.9'; echo 'NVIDIA L4, 8.9'",
    "several": "echo 'NVIDIA L4, 8.9'; echo 'NVIDIA H200, 9.0'",
}


def program(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text if text.startswith("#!") else f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@dataclass(frozen=True)
class Surroundings:
    """A volume, and programs that stand first on PATH."""

    folder: Path

    @property
    def volume(self) -> Path:
        return self.folder / "models"

    @property
    def calls(self) -> list[str]:
        """What the stand-in of the command line tool was called with."""
        log = self.folder / "calls"
        return log.read_text().splitlines() if log.exists() else []

    @property
    def builds(self) -> list[Path]:
        return sorted(path for path in self.volume.iterdir() if path.is_dir())

    def environment(self, **changed: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AURALSAM2_")}
        return {
            **kept,
            "PATH": os.pathsep.join([str(self.folder / "bin"), str(TOOLS), os.environ["PATH"]]),
            "STUB_LOG": str(self.folder / "calls"),
            "AURALSAM2_VOLUME": str(self.volume),
            **changed,
        }

    def start(self, *arguments: str, before: tuple[str, ...] = (), **changed: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*before, str(ENTRYPOINT), *arguments],
            env=self.environment(**changed),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *arguments: str, before: tuple[str, ...] = (), **changed: str) -> tuple[int, str]:
        process = self.start(*arguments, before=before, **changed)
        output, _ = process.communicate(timeout=60)
        return process.returncode, output


def mounted(*steps: str) -> tuple[str, ...]:
    """Run a command in a mount namespace of its own, after these steps."""
    before = ("unshare", "--map-root-user", "--mount", "sh", "-ec", "\n".join([*steps, 'exec "$@"']), "sh")
    tried = subprocess.run([*before, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"no mount namespaces here: {tried.stderr.strip()}")
    return before


def read_only(path: Path) -> str:
    return f"mount --bind '{path}' '{path}'; mount -o remount,bind,ro '{path}'"


def one_line(output: str) -> str:
    """The message of a refusal: it is one line."""
    lines = output.splitlines()
    assert len(lines) == 1, output
    assert lines[0].startswith("entrypoint: ")
    return lines[0]
