"""The order of files: long ones first, and each of them is there under its name."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.order import LONGEST, TESTS, longest_first


def test_every_file_that_is_named_is_there() -> None:
    assert [name for name in LONGEST if not (TESTS / name).is_file()] == []
    assert len(set(LONGEST)) == len(LONGEST)


def test_long_files_come_first_and_tests_of_a_file_keep_their_order() -> None:
    paths = [TESTS / "test_readme.py", TESTS / LONGEST[1], Path("elsewhere.py"), TESTS / LONGEST[0]]
    items: list[Any] = [SimpleNamespace(path=path, name=name) for path in paths for name in ("b", "a")]
    longest_first(items)
    assert [item.path for item in items[::2]] == [paths[3], paths[1], paths[0], paths[2]]
    assert [item.name for item in items] == ["b", "a"] * 4
