"""The command `weights`: what can be brought, and what a file of weights is."""

from typing import TYPE_CHECKING, Annotated

import typer

from auralsam2_client.errors import AuralServeError
from service.commands.terminal import fail, network_room, say

if TYPE_CHECKING:
    from auralsam2.model.catalogue import KnownWeights

NOT_SAID = "not said by the file"
NOT_NAMED = "none is published; compare with the page that you take it from"


def weights(
    files: Annotated[
        list[str] | None, typer.Argument(help="Files, or hf:// references, to describe; default: what is known.")
    ] = None,
) -> None:
    """List the weights that are shipped and those that can be brought: licence, size, hash, command."""
    try:
        with network_room():
            from auralsam2.model.catalogue import BROUGHT, examine, list_shipped

            if files:
                _tell("", [examine(file) for file in files], NOT_SAID)
                return
            _tell("shipped", list_shipped(), NOT_SAID)
            _tell("to be brought; each has a page of its own, whose licence holds", BROUGHT, "")
    except AuralServeError as error:
        fail(error)


def _tell(title: str, entries: "tuple[KnownWeights, ...] | list[KnownWeights]", nothing_said: str) -> None:
    if title:
        say(f"{title}:")
    for entry in entries:
        say(f"  {entry.name}")
        lines = (
            ("knows", entry.knows or nothing_said),
            ("licence", entry.licence),
            ("size", entry.size or "not known here"),
            ("sha256", entry.sha256 or NOT_NAMED),
            ("command", entry.command),
        )
        for label, value in lines:
            if value:
                say(f"    {label:8} {value}")
