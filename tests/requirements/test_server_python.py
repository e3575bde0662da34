"""Which Python the server's environment is made with: one that has numpy 1 and its own shared library."""

import subprocess
import sys
from pathlib import Path

import pytest

from requirements.server_python import NAMES, Interpreter, ask, choose
from tests.conftest import REPOSITORY

FOUND = {
    "3.13": Interpreter((3, 13), is_shared=True),
    "3.12": Interpreter((3, 12), is_shared=True),
    "3.11": Interpreter((3, 11), is_shared=True),
    "3.11 alone": Interpreter((3, 11), is_shared=False),
}


def test_the_one_that_runs_it_is_taken_where_it_fits() -> None:
    assert choose("3.11", ["3.12"], FOUND.get) == ("3.11", [])


def test_a_newer_one_gives_way_to_the_newest_that_fits() -> None:
    wrong = ["3.13 is Python 3.13, and the server takes 3.11 or 3.12"]
    assert choose("3.13", ["3.12", "3.11"], FOUND.get) == ("3.12", wrong)
    assert choose("3.13", ["none", "3.11"], FOUND.get) == ("3.11", [*wrong, "none is missing or does not run"])


def test_a_python_without_its_shared_library_does_not_fit() -> None:
    python, wrong = choose("3.11 alone", [], FOUND.get)
    assert python == ""
    assert wrong == ["3.11 alone is Python 3.11 without its shared library (libpython3.11.so.1.0)"]


def test_newer_names_come_first() -> None:
    assert NAMES == ("python3.12", "python3.11")


def test_an_interpreter_says_what_it_is(tmp_path: Path) -> None:
    found = ask(sys.executable)
    assert found is not None
    assert found.version == sys.version_info[:2]
    broken = tmp_path / "python3.12"
    broken.write_text("#!/bin/sh\necho three twelve\n")
    broken.chmod(0o755)
    assert ask(str(broken)) is None
    assert ask(str(tmp_path / "none")) is None


@pytest.mark.parametrize(("says", "code"), [("3 12 1", 0), ("3 13 1", 1)])
def test_the_command_prints_it_or_says_what_to_install(says: str, code: int, tmp_path: Path) -> None:
    """Before anything is installed; another Python stands for its own, since this one may be any."""
    (tmp_path / "python3.12").write_text(f"#!/bin/sh\necho {says}\n")
    (tmp_path / "python3.12").chmod(0o755)
    program = "import sys; sys.executable = '/bin/false'; from requirements import server_python; server_python.main()"
    done = subprocess.run(
        [sys.executable, "-S", "-c", program],
        cwd=REPOSITORY,
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    if code:
        assert "python3.12 is Python 3.13" in done.stderr
        assert "make setup SERVER_PYTHON=" in done.stderr
    else:
        assert done.stdout == f"{tmp_path / 'python3.12'}\n"
