"""Options and places that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

BUILDS = Path("build")
DEFAULT_BUILD = BUILDS / "compact-256-t5"

BuildOption = Annotated[Path, typer.Option("--build", help="Build folder, written by `auralsam2 export`.")]
OutOption = Annotated[Path, typer.Option("--out", "-o", help="Folder for the results; made if missing.")]
