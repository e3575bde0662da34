"""What the code's messages advise exists: each command of ours, and each target of make."""

import ast
import importlib.util
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from service.commands.cli import app

ROOT = Path(__file__).parents[2]
ROOMS = ("auralsam2", "auralsam2_client", "export", "kernels", "loadtests", "service")
# A command begins a text or stands after a mark; "the auralsam2 model" is no command.
COMMAND = re.compile(r"(?:\A|[(`:] ?|[Rr]un )auralsam2 ([a-z][a-z-]*)")
TARGET = re.compile(r"(?:[(`:] ?|[Rr]un )make ([a-z][a-z-]+)")


# With what stands after the verb, to the end of the advice: its options are those of that verb.
WITH_OPTIONS = re.compile(r"(?:\A|[(`:] ?|[Rr]un )auralsam2 ([a-z][a-z-]*)((?: [^\s`();,]+)*)")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]+")
MODULE = re.compile(r"python -m ([a-z_]+(?:\.[a-z_]+)+)")
PACKAGE = re.compile(r"pip install (?!-r )(?:--?[a-z-]+ )*([a-z][a-z0-9-]*(?:\[[a-z,-]+\])?|\.)")
LISTED = re.compile(r"pip install -r ([\w./-]+\.txt)")
DEBIAN = re.compile(r"apt-get install (?:-[\w-]+ )*((?:[a-z][a-z0-9-]+ ?)+)")
VARIABLE = re.compile(r"(?<!\w)AURALSAM2_[A-Z0-9_]+[A-Z0-9](?![\w{])")
# Brought by those who need them, beside what set-up installs; docs/gpus.md and docs/training.md have their versions.
BROUGHT = {"transformers", "tensorrt"}
# Read by programs of ours in each other, and set by no person.
INTERNAL = {
    "AURALSAM2_LAUNCH",
    "AURALSAM2_SECRET",
    "AURALSAM2_TORCH_PATH",
}


@cache
def strings() -> tuple[str, ...]:
    """Every string of the code, pieces of one that is put together joined."""
    found = []
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.JoinedStr):
                    found.append(
                        "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values)
                    )
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.append(node.value)
    return tuple(found)


def advised(pattern: re.Pattern[str]) -> set[Any]:
    """Collect what the strings of the code match."""
    return {found for text in strings() for found in pattern.findall(text)}


def commands() -> Mapping[str, Any]:
    """Give each verb of ours."""
    verbs: Mapping[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    return verbs


def test_advised_commands_exist() -> None:
    found = advised(COMMAND)
    assert "serve" in found
    assert found <= set(commands()), found


def test_advised_options_are_those_of_the_command() -> None:
    asked = {(verb, option) for verb, rest in advised(WITH_OPTIONS) for option in OPTION.findall(rest)}
    assert ("export", "--checkpoint") in asked
    known = {(verb, name) for verb, command in commands().items() for each in command.params for name in each.opts}
    assert asked <= known, asked - known


def test_advised_modules_are_there() -> None:
    found = advised(MODULE)
    assert found
    assert [name for name in sorted(found) if importlib.util.find_spec(name) is None] == []


def test_advised_packages_are_those_that_the_project_names() -> None:
    found = advised(PACKAGE)
    assert "nncf" in found
    listed = {
        re.split(r"[^A-Za-z0-9-]", line)[0].lower()
        for path in (ROOT / "requirements").glob("*.txt")
        for line in path.read_text().splitlines()
        if line and not line.startswith(("#", "-"))
    }
    assert found <= {*listed, *BROUGHT, "."}, found - listed
    files = advised(LISTED)
    assert files
    assert [name for name in sorted(files) if not (ROOT / name).is_file()] == []


def test_advised_debian_packages_are_those_that_pages_and_ci_install() -> None:
    found = {name for names in advised(DEBIAN) for name in names.split()} - {"X"}
    assert "prometheus" in found
    pages = [ROOT / "README.md", ROOT / ".ci" / "run", ROOT / "Dockerfile", *(ROOT / "docs").glob("*.md")]
    text = "\n".join(page.read_text() for page in pages)
    assert [name for name in sorted(found) if not re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text)] == []


def test_variables_in_messages_are_listed() -> None:
    found, page = advised(VARIABLE), (ROOT / "docs" / "settings.md").read_text()
    assert [name for name in sorted(found - INTERNAL) if name not in page] == []


def test_advised_targets_exist() -> None:
    found = advised(TARGET)
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert found
    assert found <= targets, found - targets


@pytest.mark.parametrize("text", ["Start it (auralsam2 nowhere)", "Run auralsam2 nowhere", "`auralsam2 nowhere`"])
def test_an_advice_is_found(text: str) -> None:
    assert COMMAND.findall(text) == ["nowhere"]
