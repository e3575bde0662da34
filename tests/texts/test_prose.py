"""How the project speaks, as far as it can be checked: docstrings are there, begin with a verb, use plain words.

A docstring of a function begins with a verb: "Read the manifest", not "The manifest, read". Whether a word is a verb is
not known here; that it is an article, a question word, a plural noun or code is. A property reads like a value, so
its docstring may be a noun; Triton kernels are compiled from their source, docstring and all, and stay as they are.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SPEAKING_ROOMS = ("kernels", "auralsam2_client", "auralsam2", "model_repository", "export", "service", "loadtests")
DOCUMENTED_ROOMS = ("auralsam2_client", "service")
NO_VERBS = {
    *("a", "an", "the", "this", "that", "these", "those", "its", "one", "two", "both", "all", "each", "every", "no"),
    *("what", "whether", "which", "who", "why", "where", "when", "how", "if", "of", "as", "at", "by", "for", "from"),
    *("in", "on", "with", "without", "over", "and", "or", "not", "only", "so", "number", "true", "false", "none"),
}
# Written otherwise: again, rebuild, restart; is missing; its, of it. Patterns, so that this file holds none of them.
BANNED = (r"ane[w]\b", r"is no progra[m]\b", r"of which wha[t]\b", r"\bthereo[f]\b", r"\bwhereo[f]\b", r"\bhereb[y]\b")
TEXTS = {".py", ".md", ".sh", ".toml", ".yml", ".yaml", ".pbtxt", ".txt"}
# The record of ideas that failed stays as it was written, each entry on its day.
RECORD = {"EXPERIMENTS.md"}
FOLDERS = (
    "auralsam2",
    "auralsam2_client",
    "docs",
    "export",
    "kernels",
    "loadtests",
    "model_repository",
    "service",
    "tests",
)
Function = ast.FunctionDef | ast.AsyncFunctionDef


def decorators(node: Function | ast.ClassDef) -> str:
    return " ".join(map(ast.unparse, node.decorator_list))


def public(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, Function | ast.ClassDef]]:
    """Yield public functions, classes and their public methods; those of a protocol are described by its class."""
    for node in body:
        if not isinstance(node, Function | ast.ClassDef) or node.name.startswith("_"):
            continue
        yield prefix + node.name, node
        if isinstance(node, ast.ClassDef) and "Protocol" not in map(ast.unparse, node.bases):
            yield from public(node.body, f"{node.name}.")


def public_of(rooms: tuple[str, ...]) -> Iterator[tuple[str, str, Function | ast.ClassDef]]:
    for room in rooms:
        for path in sorted((ROOT / room).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            yield from ((name, found, node) for found, node in public(ast.parse(path.read_text()).body))


def begins_with_a_verb(docstring: str) -> bool:
    first = re.match(r"[A-Z][a-z-]*(?=[\s,:])", docstring)
    if first is None or first[0].lower() in NO_VERBS:
        return False
    return first[0].endswith("ss") or not first[0].endswith("s")


def texts() -> Iterator[tuple[str, str]]:
    files = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*")) if path.suffix in TEXTS]
    files += [
        path for path in sorted(ROOT.iterdir()) if path.suffix in TEXTS or path.name in ("Makefile", "Dockerfile")
    ]
    for path in files:
        name = path.relative_to(ROOT).as_posix()
        if name not in RECORD:
            yield name, path.read_text(encoding="utf-8")


def test_what_is_public_in_client_and_service_has_a_docstring() -> None:
    bare = [f"{path} {name}" for path, name, node in public_of(DOCUMENTED_ROOMS) if not ast.get_docstring(node)]
    assert bare == []


def test_docstrings_of_functions_begin_with_a_verb() -> None:
    wrong = [
        f"{path} {name}: {docstring.splitlines()[0]}"
        for path, name, node in public_of(SPEAKING_ROOMS)
        if isinstance(node, Function) and not re.search(r"property|triton\.jit", decorators(node))
        if (docstring := ast.get_docstring(node)) and not begins_with_a_verb(docstring)
    ]
    assert wrong == []


# Ways to compute a clip, by the names that the tables of the load tests give them.
PARTICIPLES = {"compiled"}


def test_functions_are_not_named_by_participles_alone() -> None:
    found = {
        name.rpartition(".")[2]
        for _, name, node in public_of(SPEAKING_ROOMS)
        if isinstance(node, Function) and "property" not in decorators(node)
        if re.fullmatch(r"[a-z]+[^e]ed|written|left|kept|made|given|drawn|sent", name.rpartition(".")[2])
    }
    assert found == PARTICIPLES


@pytest.mark.parametrize(
    ("docstring", "verb"),
    [
        ("Read the manifest.", True),
        ("Process a clip.", True),
        ("Start, watch, restart.", True),
        ("The manifest, read.", False),
        ("Whether it is there.", False),
        ("Rows of both tables.", False),
        ("`a` of `b`.", False),
        ("-> blocks a frame.", False),
        ("Raises: KernelError.", False),
    ],
)
def test_the_first_word_decides(docstring: str, verb: bool) -> None:
    assert begins_with_a_verb(docstring) is verb


@pytest.mark.parametrize("pattern", BANNED)
def test_no_text_uses_a_banned_word(pattern: str) -> None:
    found = [
        f"{name}:{number} {line.strip()}"
        for name, text in texts()
        for number, line in enumerate(text.splitlines(), 1)
        if re.search(pattern, line, re.IGNORECASE)
    ]
    assert found == []
