"""What the code's messages advise exists: each command of ours, and each target of make."""

import ast
import re
from pathlib import Path

import pytest
import typer

from service.commands.cli import app

ROOT = Path(__file__).parents[2]
ROOMS = ("auralsam2", "auralsam2_client", "export", "kernels", "loadtests", "service")
# A command begins a text or stands after a mark; "the auralsam2 model" is no command.
COMMAND = re.compile(r"(?:\A|[(`:] ?|[Rr]un )auralsam2 ([a-z][a-z-]*)")
TARGET = re.compile(r"(?:[(`:] ?|[Rr]un )make ([a-z][a-z-]+)")


def advised(pattern: re.Pattern[str]) -> set[str]:
    """Collect what the strings of the code match."""
    return {
        found
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        for found in pattern.findall(node.value)
    }


def test_advised_commands_exist() -> None:
    found = advised(COMMAND)
    assert "serve" in found
    assert found <= set(typer.main.get_command(app).commands), found  # type: ignore[attr-defined]


def test_advised_targets_exist() -> None:
    found = advised(TARGET)
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert found
    assert found <= targets, found - targets


@pytest.mark.parametrize("text", ["Start it (auralsam2 nowhere)", "Run auralsam2 nowhere", "`auralsam2 nowhere`"])
def test_an_advice_is_found(text: str) -> None:
    assert COMMAND.findall(text) == ["nowhere"]
