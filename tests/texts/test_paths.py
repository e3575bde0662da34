"""What texts name exists: files and modules in pages, in comments and docstrings, in the files of images and set-up.

A file may be named from the root (`kernels/report.py`), from its room or its folder (`start/initial.py`), or alone
(`plan.py`), so a name is right when a file of the checkout ends with it. A module is named with dots.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

ROOMS = ("auralsam2", "auralsam2_client", "export", "kernels", "loadtests", "model_repository", "service", "tests")
FOLDERS = (*ROOMS, "docs", "requirements", ".ci")
# The record of what was tried names what there was on its day.
RECORD = "EXPERIMENTS.md"
# The list of what changed names what there was before.
MOVES = "CHANGELOG.md"

_ROOM = "|".join(sorted(ROOMS, key=len, reverse=True))
A_FILE = re.compile(r"(?<![\w./*}>-])((?:\.ci/)?\w[\w./-]*\.(?:py|md|sh|pbtxt|ya?ml|toml))\b(?![\w*(])")
A_FOLDER = re.compile(rf"`((?:{_ROOM})/[\w/]+)`")
A_MODULE = re.compile(rf"(?<![\w./:-])((?:{_ROOM})(?:\.[A-Za-z]\w*)+)")
# Written by commands, or said of files that there should not be.
NOT_HERE = {"gpu.md", "growth.md", "precision_report.md", "savings.md", "table.md", "tables.md", "utils.py"}
PLACEHOLDER = "NAME"
# What follows a dot where the name is that of a file, not of a module.
ENDINGS = {"txt", "json", "html", "csv"}
SPEAKING = {".py", ".md", ".sh", ".pbtxt", ".yml", ".yaml", ".toml"}
WITHOUT_ENDING = {"Makefile", "Dockerfile", "run"}


def words_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines that speak to people: of a module its comments and strings, of another text all.

    Strings of tests are made up as often as not, so of theirs docstrings alone.
    """
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        yield from enumerate(text.splitlines(), 1)
        return
    in_tests = "tests" in path.parts
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT or (token.type == tokenize.STRING and not in_tests):
            yield from enumerate(token.string.splitlines(), token.start[0])
    for node in ast.walk(ast.parse(text)) if in_tests else ():
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield from enumerate(node.value.value.splitlines(), node.lineno)


def files(root: Path) -> list[Path]:
    """List the checkout's own files: not what set-up, builds and tools leave in it."""
    inside = [path for folder in FOLDERS for path in (root / folder).rglob("*") if "__pycache__" not in path.parts]
    return sorted(path for path in (*root.iterdir(), *inside) if path.is_file())


def is_module(root: Path, name: str) -> bool:
    """Say whether a name with dots is a module, or something in one."""
    here, *parts = (root / name.split(".")[0], *name.split(".")[1:])
    for part in parts:
        if not (here / part).is_dir():
            door = here / "__init__.py"
            known = door.is_file() and re.search(rf"\b{part}\b", door.read_text(encoding="utf-8"))
            return bool(known) or (here / f"{part}.py").is_file() or part in ENDINGS
        here /= part
    return True


def strangers(root: Path) -> list[str]:
    """Name what a text names and the checkout lacks."""
    there = [path.relative_to(root) for path in files(root)]
    tails = {"/".join(path.parts[start:]) for path in there for start in range(len(path.parts))} | NOT_HERE
    folders = {parent.as_posix() for path in there for parent in path.parents}
    found = []
    for path in there:
        if path.name == RECORD or (path.suffix not in SPEAKING and path.name not in WITHOUT_ENDING):
            continue
        for number, line in words_of(root / path):
            wrong = {name for name in A_FILE.findall(line) if name not in tails}
            wrong |= {name for name in A_FOLDER.findall(line) if name.rstrip("/") not in folders | tails}
            if path.name != MOVES:
                wrong |= {name for name in A_MODULE.findall(line) if not is_module(root, name)}
            found += [f"{path.as_posix()}:{number} {name}" for name in sorted(wrong) if PLACEHOLDER not in name]
    return found


def test_what_texts_name_exists() -> None:
    assert strangers(REPOSITORY) == []


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        ("`kernels/launching/launch.py`, `launching/launch.py`, `launch.py`", []),
        ("`kernels/launch.py` says why", ["kernels/launch.py"]),
        ("see plan.py.", ["plan.py"]),
        ("`kernels/launching/`, `kernels/launched/`", ["kernels/launched/"]),
        ("kernels.launching.launch.Plan, kernels.Card, kernels.txt", []),
        ("kernels.launch.Plan", ["kernels.launch.Plan"]),
        ("torch.ops.kernels.fuse, /tmp/kernels/a.py, out/*.py, NAME/plan.py", []),
    ],
)
@pytest.mark.parametrize("form", ["docs/a.md", "Makefile", "kernels/a.py", "tests/a.py"])
def test_what_is_missing_is_seen(words: str, wrong: list[str], form: str, tmp_path: Path) -> None:
    (tmp_path / "kernels" / "launching").mkdir(parents=True)
    (tmp_path / "kernels" / "launching" / "launch.py").touch()
    (tmp_path / "kernels" / "__init__.py").write_text("Card = 1\n")
    path = tmp_path / form
    path.parent.mkdir(exist_ok=True)
    path.write_text(f'"""A line.\n\n{words}\n"""\n' if path.suffix == ".py" else f"A line.\n\n{words}\n")
    assert strangers(tmp_path) == [f"{form}:3 {name}" for name in wrong]


def test_strings_of_tests_are_their_own(tmp_path: Path) -> None:
    for folder in ("tests", "service"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.py").write_text("X = 'kernels/gone.py'  # as kernels/away.py\n")
    both = ["service/a.py:1 kernels/away.py", "service/a.py:1 kernels/gone.py"]
    assert sorted(strangers(tmp_path)) == [*both, "tests/a.py:1 kernels/away.py"]
