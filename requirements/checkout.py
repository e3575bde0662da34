"""Give an environment the rooms of this checkout, and the command `auralsam2`.

Run it with the environment's own Python: `.venv/bin/python requirements/checkout.py`. Nothing is built and nothing is
copied: a path file says where the rooms lie, so an edit counts at once. The package that others install is the client
alone (pyproject.toml), so the rooms' plain names never reach another person's site-packages.
"""

import sys
import sysconfig
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
PATH_FILE = "auralsam2_checkout.pth"
# Read by sh, which finds a Python at a path of any length, spaces included; then by that Python.
LAUNCHER = """#!/bin/sh
'''exec' "{python}" "$0" "$@"
' '''
import sys

from service.commands.cli import main

if __name__ == "__main__":
    sys.exit(main())
"""


def link(checkout: Path, site_packages: Path, scripts: Path, python: Path) -> None:
    """Write the path file into `site_packages` and the command into `scripts`; what stood there is replaced."""
    (site_packages / PATH_FILE).write_text(f"{checkout}\n")
    command = scripts / "auralsam2"
    command.unlink(missing_ok=True)
    command.write_text(LAUNCHER.format(python=python))
    command.chmod(0o755)


def main() -> None:
    """Link the environment that runs this. Ends with a message when it is no virtual environment."""
    if sys.prefix == sys.base_prefix:
        raise SystemExit(
            f"{sys.executable} belongs to no virtual environment, and this would change the system's Python."
            " Run it with the environment's own: .venv/bin/python requirements/checkout.py"
        )
    link(CHECKOUT, Path(sysconfig.get_path("purelib")), Path(sysconfig.get_path("scripts")), Path(sys.executable))


if __name__ == "__main__":
    main()
