"""What every command shares: exit codes, and how loud the libraries are that a command calls."""

import logging
import subprocess
import sys

import pytest
import typer

from auralsam2_client.errors import AuralServeError, BadInput, ServerTimeout, SessionEnded
from service.commands.tables import doctor_table
from service.commands.terminal import EXIT_CODES, console, errors, fail, quieten, say
from service.findings import Finding


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BadInput("a"), 2),
        (SessionEnded("a session that is over is bad input too"), 2),
        (ServerTimeout("late"), 5),
        (AuralServeError("of no listed class"), 1),
        (ValueError("of no class of ours"), 1),
    ],
)
def test_a_class_ends_with_the_code_of_its_nearest_listed_parent(error: Exception, code: int) -> None:
    with pytest.raises(typer.Exit) as ended:
        fail(error)
    assert ended.value.exit_code == code


def test_every_error_of_the_client_has_a_code_of_its_own_or_its_parent_s() -> None:
    unlisted = [kind for kind in AuralServeError.__subclasses__() if kind not in EXIT_CODES]
    assert not unlisted
    assert len(set(EXIT_CODES.values())) == len(EXIT_CODES)


def test_only_the_named_loggers_are_quiet_and_only_for_a_while(caplog: pytest.LogCaptureFixture) -> None:
    named, other = logging.getLogger("exporter_of_the_test.graph"), logging.getLogger("other_of_the_test")
    root_level = logging.getLogger().level
    with quieten("exporter_of_the_test"):
        assert logging.getLogger().level == root_level
        named.warning("hidden")
        named.error("an error is shown")
        other.warning("somebody else's")
    named.warning("shown again")
    assert caplog.messages == ["an error is shown", "somebody else's", "shown again"]


def test_a_failure_ends_the_quiet_too() -> None:
    named = logging.getLogger("exporter_of_the_test")
    with pytest.raises(ZeroDivisionError), quieten("exporter_of_the_test"):
        _ = 1 / (named.level - logging.ERROR)
    assert named.level == logging.NOTSET


def test_nothing_that_is_printed_is_markup(capsys: pytest.CaptureFixture[str]) -> None:
    name = "Clip [id] [/b] [red]x[/red] :smile:"
    console.print(name)
    console.print(doctor_table([Finding("[build]", ok=False, found=name, fix="[fix] it", needed_for="")]))
    with pytest.raises(typer.Exit):
        fail(BadInput(f"{name}\t."))
    errors.print(name, style="yellow")
    say(f"{name}\t.")
    shown = capsys.readouterr()
    assert shown.out.startswith(f"{name}\n")
    assert shown.out.endswith(f"{name}\t.\n")
    assert "[build]" in shown.out
    assert "[fix]" in shown.out
    assert shown.err == f"error: {name}\t.\n{name}\n"


def test_a_name_of_any_bytes_is_printed() -> None:
    code = (
        "from service.commands import terminal; import os\n"
        "terminal.print_any_name(); terminal.say(os.fsdecode(b'caf\\xe9 \\xc3\\xa9'))"
    )
    printed = subprocess.run([sys.executable, "-X", "utf8", "-c", code], capture_output=True, check=True).stdout
    assert printed == b"caf\xe9 \xc3\xa9\n"
