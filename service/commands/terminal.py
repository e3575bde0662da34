"""What every command shares: two consoles, one way to fail, one progress bar, other libraries kept quiet."""

import io
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from auralsam2_client.errors import BadInput, ConfigError, ServerFault, ServerTimeout, ServerUnavailable

INTERRUPTED = 130
"""The exit code after Ctrl-C: 128 and the number of the signal, as shells have it."""
OWN_ROOMS = ("auralsam2", "auralsam2_client", "export", "kernels", "model_repository", "service")
"""Modules that are never to be installed: one that is missing is a fault of ours."""
CLIPS_LEFT_OUT = 7
"""The exit code where figures were written, but not of every clip that was asked for."""
# One exit code a cause, for scripts. 1 is everything else.
EXIT_CODES: dict[type, int] = {
    BadInput: 2,
    ConfigError: 3,
    ServerUnavailable: 4,
    ServerTimeout: 5,
    ServerFault: 6,
}
# Names of a person's files are printed, so nothing that is printed is markup: neither "[id]" nor ":smile:".
errors = Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)
console = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)


def say(line: str) -> None:
    """Print a line letter for letter: also tabs, which a console would turn into blanks."""
    typer.echo(line)


def note(line: str, colour: str = "yellow", *, bold: bool = False) -> None:
    """Print a line on standard error, letter for letter; coloured while a person watches."""
    if errors.is_terminal and not errors.no_color:
        typer.secho(line, fg=colour, bold=bold, err=True)
    else:
        typer.echo(line, err=True)


def print_any_name() -> None:
    """Let standard output take every name that a file can have, also one that is not UTF-8: byte for byte."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        is_utf_8 = sys.stdout.encoding.lower().replace("_", "-") == "utf-8"
        sys.stdout.reconfigure(errors="surrogateescape" if is_utf_8 else "backslashreplace")


def fail(error: Exception) -> NoReturn:
    """Say what is wrong in one message without a traceback, and end with the cause's exit code."""
    note(f"error: {error}", "red", bold=True)
    raise typer.Exit(exit_code(error))


def exit_code(error: Exception) -> int:
    """Look up the code of the nearest listed class that `error` belongs to; 1 for any other error."""
    return next((EXIT_CODES[kind] for kind in type(error).__mro__ if kind in EXIT_CODES), 1)


def end_interrupted(kept: str, command: str, code: int = INTERRUPTED) -> NoReturn:
    """Say what an interrupted command kept and how it goes on, and end with the code of the signal.

    Args:
        kept: as "step 12 of 2400 is saved in runs/compact/checkpoint.pt".
        command: goes on, or starts again.
    """
    note(f"interrupted; {kept}. Go on with:\n  {command}")
    raise typer.Exit(code)


@contextmanager
def network_room() -> Iterator[None]:
    """Raise errors of the network room as this room's, and what is not installed as a ConfigError."""
    try:
        from auralsam2.errors import DataError, NetworkError
    except ModuleNotFoundError as error:
        raise ConfigError(_lacking(error)) from error
    try:
        yield
    except DataError as error:
        raise BadInput(str(error)) from error
    except NetworkError as error:
        raise ConfigError(str(error)) from error
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in OWN_ROOMS:
            raise
        raise ConfigError(_lacking(error)) from error


def _lacking(error: ModuleNotFoundError) -> str:
    return (
        f"this command needs the package {error.name!r}, which is not installed. Install what the network needs with:"
        " make setup"
    )


@contextmanager
def progress_bar(what: str) -> Iterator[Progress]:
    """Show a bar on stderr while a person watches; do nothing elsewhere."""
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors, disable=not errors.is_terminal, transient=True) as bar:
        yield bar


@contextmanager
def quieten(*names: str) -> Iterator[None]:
    """Let the named loggers report errors alone for a while; every other logger stays as it is.

    Args:
        names: of loggers, as `logging.getLogger` takes them; children follow unless they have their own level.
    """
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
