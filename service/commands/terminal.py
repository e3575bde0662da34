"""What every command shares: two consoles, one way to fail, one progress bar."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from auralsam2_client.errors import (
    AuralServeError,
    BadInput,
    ConfigError,
    ServerFault,
    ServerTimeout,
    ServerUnavailable,
)

# One exit code a cause, for scripts. 1 is everything else.
EXIT_CODES: dict[type[AuralServeError], int] = {
    BadInput: 2,
    ConfigError: 3,
    ServerUnavailable: 4,
    ServerTimeout: 5,
    ServerFault: 6,
}
errors = Console(stderr=True, highlight=False, soft_wrap=True)
console = Console(highlight=False, soft_wrap=True)


def fail(error: Exception) -> NoReturn:
    """Say what is wrong in one message without a traceback, and end with the cause's exit code."""
    errors.print(f"error: {error}", style="bold red", markup=False)
    raise typer.Exit(EXIT_CODES.get(type(error), 1) if isinstance(error, AuralServeError) else 1)


@contextmanager
def progress_bar(what: str) -> Iterator[Progress]:
    """A bar on stderr, only where a person watches."""
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors, disable=not errors.is_terminal, transient=True) as bar:
        yield bar
