"""Reads the house from its sources: every module with all that it imports, and the arrows that follow."""

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path


@dataclass(frozen=True)
class Module:
    """One file, and the modules of the house and packages of others that it imports, as (name, whether at once)."""

    name: str
    path: Path
    imports: frozenset[tuple[str, bool]]
    num_lines: int
    docstring: str

    @property
    def room(self) -> str:
        return self.name.partition(".")[0]

    @property
    def is_door(self) -> bool:
        return self.path.name == "__init__.py"

    def shows(self, name: str) -> bool:
        """Whether it is the door of the package that `name` lies in: importing it shows, and does not use."""
        return self.is_door and name.startswith(f"{self.name}.")

    @property
    def folder(self) -> str:
        return self.path.parent.as_posix()


def read_imports(tree: ast.AST, package: str, at_once: bool = True) -> Iterator[tuple[str, str, bool]]:
    """Each import as (module, name taken from it or "", whether it runs when the module is imported)."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "", at_once) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: package.count(".") + 2 - node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from ((base, alias.name, at_once) for alias in node.names)
        waits = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        waits = waits or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))
        yield from read_imports(node, package, at_once and not waits)


def read_house(root: Path, rooms: Iterable[str]) -> dict[str, Module]:
    """Every module below the rooms, folders of `root`, by its dotted name."""
    paths = {}
    for path in sorted(path for room in rooms for path in (root / room).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    house = {}
    for name, path in paths.items():
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        imports = frozenset(
            (f"{base}.{taken}" if f"{base}.{taken}" in paths else base, at_once)
            for base, taken, at_once in read_imports(tree, package)
        )
        house[name] = Module(
            name, path.relative_to(root), imports, len(text.splitlines()), ast.get_docstring(tree) or ""
        )
    return house


def module_arrows(house: dict[str, Module]) -> set[tuple[str, str]]:
    """From module to module, late ones too, but for those with which a door shows what lies behind it."""
    return {
        (module.name, name)
        for module in house.values()
        for name, at_once in module.imports
        if name in house and name != module.name and (at_once or not module.shows(name))
    }


def folder_arrows(house: dict[str, Module]) -> set[tuple[str, str]]:
    """From folder to folder, but for those with which a door shows what lies behind it."""
    arrows = {
        (house[start].folder, house[end].folder) for start, end in module_arrows(house) if not house[start].shows(end)
    }
    return {(start, end) for start, end in arrows if start != end}


def circle(arrows: Iterable[tuple[str, str]]) -> list[str]:
    """One circle in `arrows`, or nothing."""
    sorter: TopologicalSorter[str] = TopologicalSorter()
    for start, end in arrows:
        sorter.add(start, end)
    try:
        sorter.prepare()
    except CycleError as error:
        return list(error.args[1])
    return []
