"""Help says of each option that takes a value what holds without it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer

from auralsam2_client.media.reading import MAX_FRAMES
from service.commands.cli import app

ROOT = Path(__file__).parents[2]
ROOMS = ("auralsam2", "auralsam2_client", "export", "kernels", "loadtests", "model_repository", "service")
VALUELESS = {"store_true", "store_false", "version", "help"}
COMMANDS: dict[str, click.Command] = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def is_told(text: str) -> bool:
    return "default: " in text.lower()


def silent_options(command: click.Command) -> list[str]:
    """The options of a command of which nothing tells what holds without them."""
    return [
        option.opts[0]
        for option in command.params
        if isinstance(option, click.Option) and not (option.is_flag or option.required)
        # Shown by the library where there is one.
        if (option.default is None or not option.show_default) and not is_told(option.help or "")
    ]


@pytest.mark.parametrize("name", COMMANDS)
def test_each_option_of_a_command_tells_its_default(name: str) -> None:
    assert silent_options(COMMANDS[name]) == []


def added_arguments(source: str) -> Iterator[tuple[str, str]]:
    """Each option with a value that a parser in `source` takes, and its help as far as it is letters."""
    for call in ast.walk(ast.parse(source)):
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)):
            continue
        if call.func.attr != "add_argument":
            continue
        # One that a helper names by a variable is an option too.
        names = [name.value for name in call.args if isinstance(name, ast.Constant)] or ["--"]
        given = {word.arg: word.value for word in call.keywords}
        action, required = given.get("action"), given.get("required")
        if not str(names[0]).startswith("-") or (isinstance(action, ast.Constant) and action.value in VALUELESS):
            continue
        if isinstance(required, ast.Constant) and required.value:
            continue
        texts = ast.walk(given["help"]) if "help" in given else ()
        yield str(names[0]), "".join(str(text.value) for text in texts if isinstance(text, ast.Constant))


def test_each_option_of_a_module_tells_its_default() -> None:
    found = {
        (path.relative_to(ROOT).as_posix(), name): text
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
        for name, text in added_arguments(path.read_text())
    }
    assert ("loadtests/run.py", "--rate") in found
    assert [place for place, text in found.items() if not is_told(text)] == []


def test_a_silent_option_is_found() -> None:
    @click.command
    @click.option("--told", help="Something; default: nothing.")
    @click.option("--shown", default=3, show_default=True)
    @click.option("--hidden", default=3)
    @click.option("--silent", help="Something.")
    def command() -> None: ...

    assert silent_options(command) == ["--hidden", "--silent"]
    source = "p.add_argument('--a', help='x; default: 1'); p.add_argument('--b', help='x'); p.add_argument('c')"
    assert [name for name, text in added_arguments(source) if not is_told(text)] == ["--b"]


def test_segment_says_how_many_frames_it_takes() -> None:
    command = COMMANDS["segment"]
    most = next(option for option in command.params if option.name == "max_frames")
    assert f"1 to {MAX_FRAMES}" in str(getattr(most, "help", ""))
    assert f"{MAX_FRAMES} frames at most" in str(command.help)
    assert f"takes {MAX_FRAMES} frames at most" in (ROOT / "docs" / "media.md").read_text()
