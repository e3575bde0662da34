"""What pages say, taken apart: code blocks, tables, links, and whether a shell command exists."""

import re
import shlex
from pathlib import Path

import yaml
from typer.main import get_command

from service.commands.cli import app

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
# Commands that are no part of the project, word by word.
KNOWN = ([".", ".venv/bin/activate"], ["tensorboard", "--logdir", "runs"])


def blocks(text: str) -> list[tuple[str, str]]:
    """Language and content of each code block."""
    return BLOCK.findall(text)


def links(text: str) -> list[str]:
    """Where a page links to, without addresses and without what stands in code."""
    return [link for link in LINK.findall(BLOCK.sub("", text)) if "://" not in link]


def table_rows(text: str) -> list[tuple[list[str], list[str]]]:
    """Each row of each table, beside the heads of its columns."""
    found: list[tuple[list[str], list[str]]] = []
    heads: list[str] | None = None
    for line in text.splitlines():
        if not line.startswith("|"):
            heads = None
            continue
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if heads is None:
            heads = cells
        elif not all(re.fullmatch(r":?-+:?", cell) for cell in cells):
            found.append((heads, cells))
    return found


def check_shell(code: str, root: Path) -> int:
    """Hold each line against what the project really has; say how many there were."""
    targets = set(re.findall(r"^([a-z-]+):", (root / "Makefile").read_text(), re.MULTILINE))
    commands = get_command(app)
    lines = [line for line in code.splitlines() if line.strip()]
    for line in lines:
        words = shlex.split(line, comments=True)
        if words[0] == "make":
            assert words[1] in targets, line
        elif words[0] == "auralsam2":
            # The CLI knows the verb and each of its options.
            command = commands.commands[words[1]]  # type: ignore[attr-defined]
            options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
            assert {word for word in words if word.startswith("-")} <= options, line
        elif words[:3] == ["docker", "compose", "--profile"]:
            compose = yaml.safe_load((root / "compose.yaml").read_text())
            assert any(words[3] in service.get("profiles", []) for service in compose["services"].values()), line
        elif words[:2] == ["python", "-m"]:
            module = root.joinpath(*words[2].split("."))
            assert module.with_suffix(".py").is_file() or (module / "__main__.py").is_file(), line
        elif words[:2] == ["locust", "-f"]:
            assert root.joinpath(words[2]).is_file(), line
        elif words[:2] == ["python", "-c"]:
            compile(words[2], line, "exec")
        else:
            assert words in KNOWN, line
    return len(lines)
