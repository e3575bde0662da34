"""What a room defines is used by a room: a name that only its own definition (and perhaps a test) mentions is dead."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("kernels", "auralsam2", "auralsam2_client", "model_repository", "export", "service", "loadtests")
# Called by name from outside: Locust's users.
CALLED_BY_A_FRAMEWORK = {"ClipUser", "on_start", "on_stop", "run_load"}
# By Python's own HTTP server, likewise.
CALLED_BY_A_FRAMEWORK |= {
    "verify_request",
    "service_actions",
    "handle_error",
    "do_GET",
    "log_message",
}
# Read by a person who counts in a notebook, and by the tests of the figures beside it.
FOR_A_PERSON = {"by_operator"}
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def sources() -> dict[Path, str]:
    paths = (path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py")))
    return {path.relative_to(ROOT): path.read_text(encoding="utf-8") for path in paths}


def is_registered(node: Definition) -> bool:
    """Whether a decorator hands the definition to somebody who calls it, as a command, an event or an operator is."""
    return any(isinstance(decorator, ast.Call | ast.Attribute) for decorator in node.decorator_list)


def dead(files: dict[Path, str]) -> Iterator[str]:
    mentions = Counter(word for text in files.values() for word in re.findall(r"[A-Za-z_]\w*", text))
    for path, text in files.items():
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, Definition) or node.name.startswith("__") or is_registered(node):
                continue
            if mentions[node.name] == 1:
                yield f"{path}:{node.lineno} {node.name}"


def test_no_definition_is_dead() -> None:
    exempt = CALLED_BY_A_FRAMEWORK | FOR_A_PERSON
    found = list(dead(sources()))
    assert [line for line in found if line.split()[-1] not in exempt] == []
    # What has found a caller, or has gone, is taken off the lists.
    assert {line.split()[-1] for line in found} == exempt


def test_a_dead_definition_would_be_found() -> None:
    text = "import typer\ndef used(): ...\ndef unused(): used()\n@app.command()\ndef serve(): ...\n"
    assert list(dead({Path("a.py"): text})) == ["a.py:3 unused"]
