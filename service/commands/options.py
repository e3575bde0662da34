"""Options and places that several commands share."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

BUILDS = Path("build")
DEFAULT_BUILD = BUILDS / "compact-256-t5"

BuildOption = Annotated[Path, typer.Option("--build", help="Build folder, written by `auralsam2 export`.")]
OutOption = Annotated[Path, typer.Option("--out", "-o", help="Folder for the results; made if missing.")]


def repeat_command(context: typer.Context) -> str:
    """Write the command that is under way as one would type it: what was given, quoted for a shell."""
    words = ["auralsam2", context.info_name or ""]
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        if source is None or source.name != "COMMANDLINE":
            continue
        value = context.params[name]
        flag = max(parameter.opts, key=len)
        if isinstance(value, bool):
            words.append(flag if value else max(parameter.secondary_opts, key=len))
        else:
            for given in value if isinstance(value, list | tuple) else [value]:
                words += [flag, str(given)]
    return shlex.join(words)
