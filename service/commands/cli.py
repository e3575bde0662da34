"""`auralsam2`: one command a verb, each in the module of its group.

`export`, `demo`, `weights`, `train` and `evaluate` need the network; they load that room when they are called, so that
a client needs no torch.
"""

import os
import sys
from typing import Annotated

import typer

from auralsam2_client.version import __version__
from service.commands import building, demonstrating, learning, running, segmenting, training, weights
from service.commands.terminal import print_any_name, say

app = typer.Typer(
    help="Audio-visual segmentation: a clip with sound goes in, masks of the sounding objects come out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _say_version(wanted: bool) -> None:
    if wanted:
        say(f"auralsam2 {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Take what stands before the verb."""


# In the order of the help.
for verb in (
    building.export,
    building.engines,
    weights.weights,
    running.serve,
    segmenting.segment,
    demonstrating.demo,
    running.doctor,
    training.train,
    learning.evaluate,
):
    app.command()(verb)


def main() -> None:
    """Run the console script."""
    print_any_name()
    try:
        app()
    except BrokenPipeError:
        # Whoever read our output has gone; there is nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


if __name__ == "__main__":
    main()
