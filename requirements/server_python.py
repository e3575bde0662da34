"""Choose the Python of the server's environment: the embedded server wants numpy 1, which has no wheel beyond 3.12.

Run it from the checkout: `python3 -m requirements.server_python`. It prints the interpreter to take: the one that runs
it where that will do, else the newest on PATH that does. It needs the standard library alone, since it runs before
anything is installed.
"""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass

OLDEST, NEWEST = (3, 11), (3, 12)
NAMES = tuple(f"python{OLDEST[0]}.{minor}" for minor in range(NEWEST[1], OLDEST[1] - 1, -1))
_PROBE = (
    "import os, sys, sysconfig as c; v = sys.version_info; name = f'libpython{v[0]}.{v[1]}.so.1.0';"
    "places = (c.get_config_var('LIBDIR') or '', sys.base_prefix + '/lib');"
    "found = any(os.path.exists(os.path.join(place, name)) for place in places);"
    "print(v[0], v[1], int(found))"
)


@dataclass(frozen=True)
class Interpreter:
    """What a Python says of itself."""

    version: tuple[int, int]
    is_shared: bool
    """It comes with libpython as a shared library, which the stages of the server load."""

    def why_not(self) -> str:
        """Say what makes it unfit for the server; "" where it fits."""
        version = ".".join(map(str, self.version))
        if not OLDEST <= self.version <= NEWEST:
            return f"is Python {version}, and the server takes 3.11 or 3.12"
        return "" if self.is_shared else f"is Python {version} without its shared library (libpython{version}.so.1.0)"


def ask(python: str) -> Interpreter | None:
    """Ask an interpreter for its version and its shared library; None for what does not run."""
    try:
        answer = subprocess.run([python, "-I", "-c", _PROBE], capture_output=True, text=True, timeout=60, check=True)
        major, minor, found = map(int, answer.stdout.split())
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return Interpreter((major, minor), bool(found))


def choose(
    own: str, names: Iterable[str] = NAMES, asked: Callable[[str], Interpreter | None] = ask
) -> tuple[str, list[str]]:
    """Choose the first that fits of the own interpreter and of `names`; "" where none does.

    Returns: the interpreter, and what is wrong with those before it, one line each.
    """
    wrong = []
    for python in (own, *names):
        found = asked(python)
        why_not = "is missing or does not run" if found is None else found.why_not()
        if not why_not:
            return python, wrong
        wrong.append(f"{python} {why_not}")
    return "", wrong


def main() -> None:
    """Print the choice. Ends with a message where no interpreter fits."""
    python, wrong = choose(sys.executable)
    if not python:
        raise SystemExit(
            "The environment of the server needs Python 3.11 or 3.12 with its shared library:\n  "
            + "\n  ".join(wrong)
            + "\nInstall python3.12, or name one: make setup SERVER_PYTHON=/path/to/python3.12"
        )
    print(shutil.which(python) or python)


if __name__ == "__main__":
    main()
