"""The pages: their commands exist, their links and modules too, and a figure stands in one place."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from auralsam2_client.contract import BUILD_FORMAT, Reason
from service.commands.cli import app
from tests.conftest import REPOSITORY
from tests.pages import blocks, check_shell, links, table_rows
from tests.test_house import LATE, PARTS
from tests.test_house import ROOMS as ARROWS

ROOT_PAGES = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")
PAGES = (*(REPOSITORY / name for name in ROOT_PAGES), *sorted((REPOSITORY / "docs").glob("*.md")))
ROOMS = "auralsam2|auralsam2_client|export|kernels|loadtests|model_repository|requirements|service|tests"
A_PATH = re.compile(rf"`((?:{ROOMS}|docs)/[\w./-]*)`")
SPEED = re.compile(r"frames (?:per|a) second|frames/s|FPS", re.IGNORECASE)
FIGURE = re.compile(r"\d+(?:\.\d+)?(?= (?:frames (?:per|a) second|frames/s|FPS))", re.IGNORECASE)

# Pages of one room, which lie beside what they describe.
CARDS = tuple(REPOSITORY / room / "README.md" for room in ("auralsam2/weights", "kernels"))
COMMAND = re.compile(r"^(?:auralsam2|make|python|pip|docker) ", re.MULTILINE)

pages = pytest.mark.parametrize("page", [*PAGES, *CARDS], ids=lambda page: page.relative_to(REPOSITORY).as_posix())


@pages
def test_every_command_exists(page: Path) -> None:
    for language, code in blocks(page.read_text()):
        # A picture has no language; examples in Python are run by tests/test_readme.py and tests/test_wire_page.py.
        assert language in ("", "bash", "python"), f"{page.name} has a block of {language!r} that no test runs"
        assert language != "python" or page.name in ("README.md", "wire.md")
        assert language != "" or not COMMAND.search(code), f"{page.name} has commands in a block without a language"
        if language == "bash":
            check_shell(code, REPOSITORY)


@pages
def test_links_and_paths_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    assert [link for link in links(text) if not (page.parent / link).exists()] == []
    assert [path for path in A_PATH.findall(text) if "NAME" not in path and not (REPOSITORY / path).exists()] == []


@pages
def test_no_page_installs_what_there_is_not(page: Path) -> None:
    # The package is the client alone, and has no extras: groups are files in requirements/.
    assert "auralsam2-service[" not in page.read_text()
    for group in re.findall(r"requirements/[\w-]+\.txt", page.read_text()):
        assert (REPOSITORY / group).is_file()


def speeds_of_compact(text: str) -> list[str]:
    """Figures of speed in rows and sentences about `compact`."""
    found = []
    for heads, cells in table_rows(text):
        if "`compact`" in " ".join(heads + cells):
            found += [cell for head, cell in zip(heads, cells, strict=True) if SPEED.search(head)]
    prose = re.sub(r"(?m)^\|.*\n", "", text)
    for paragraph in re.split(r"\n\s*\n", prose):
        if "compact" in paragraph:
            found += FIGURE.findall(paragraph)
    return found


def test_the_speed_of_compact_stands_once() -> None:
    found = {page.name: speeds_of_compact(page.read_text()) for page in PAGES}
    assert {name: figures for name, figures in found.items() if figures} == {"README.md": ["19.2"]}


def test_another_speed_of_compact_would_be_found() -> None:
    assert speeds_of_compact("`compact` on two cores: 21.6 frames a second, p50 920 ms.") == ["21.6"]
    row = "| network | frames/s |\n|---|---:|\n| `compact`, 256, 5 | 23.3 |\n"
    assert speeds_of_compact(row) == ["23.3"]
    assert speeds_of_compact("| network | frames/s |\n|---|---:|\n| `hiera_tiny` | 9.9 |\n") == []


def test_the_changelog_names_what_breaks() -> None:
    unreleased = (REPOSITORY / "CHANGELOG.md").read_text().partition("## [Unreleased]")[2].partition("\n## ")[0]
    changed = unreleased.partition("### Changed")[2].partition("\n### ")[0]
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    commands = get_command(app).commands  # type: ignore[attr-defined]
    defaults = {
        option: next(each.default for each in commands[command].params if option in each.opts)
        for command, option in (("evaluate", "--protocol"), ("train", "--recipe"))
    }
    breaking = (
        f"format {BUILD_FORMAT}",
        f"[{Reason.QUEUE_FULL}]",
        f"`{project['name']}`",
        "`auralsam2_client`",
        *(f"{option} {default}`" for option, default in defaults.items()),
    )
    assert [name for name in breaking if name not in changed] == []


def test_the_navigation_names_every_page() -> None:
    text = (REPOSITORY / "mkdocs.yml").read_text()
    named = set(re.findall(r"[\w-]+\.md", str(yaml.safe_load(text)["nav"])))
    assert named >= {page.name for page in (REPOSITORY / "docs").glob("*.md")}


def test_a_group_is_installed_as_its_page_says(tmp_path: Path) -> None:
    text = (REPOSITORY / "requirements" / "README.md").read_text()
    (block,) = [code for language, code in blocks(text) if language]
    make, install = block.splitlines()
    target = tmp_path / "constraints.txt"
    subprocess.run(["sh", "-c", make.replace("> constraints.txt", f"> {target}")], cwd=REPOSITORY, check=True)
    lines = [line for line in target.read_text().splitlines() if line and not line.lstrip().startswith("#")]
    assert len(lines) > 100
    assert [line for line in lines if not re.match(r"[\w.-]+(\[[\w,-]+\])?==[\w.!+-]+( ;.*)?$", line)] == []
    (group,) = re.findall(r"-r (\S+)", install)
    assert (REPOSITORY / group).is_file()


def test_the_table_of_rooms_is_the_one_that_imports_are_held_to() -> None:
    rows = table_rows((REPOSITORY / "docs" / "architecture.md").read_text())
    shown = {cells[0].strip("`"): set(re.findall(r"`(\w+)`", cells[2])) for heads, cells in rows if heads[0] == "room"}
    held = {room: {name.partition(".")[0] for name in (*may, *LATE.get(room, ()))} for room, may in ARROWS.items()}
    for part, more in PARTS.items():
        held[part.partition(".")[0]] |= set(more)
    assert shown.pop("tests") == set()  # all of them
    held.pop("tests")
    assert shown == held
    assert list(shown) == list(held)
