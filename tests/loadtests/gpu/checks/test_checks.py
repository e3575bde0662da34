"""Checks one after the other, of the network, and under compute-sanitizer: what is missing is said."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from loadtests.cases.case import Case
from loadtests.gpu.checks import __main__ as command
from loadtests.gpu.checks import sanitizer_checks
from loadtests.gpu.checks.check import Check, LeftOutError, Place, run_checks
from loadtests.gpu.checks.network_checks import network_checks
from loadtests.gpu.clip.ways import Bench, Form, Way

SMALL = Case("compact", 224, 2)


def failed(checks: list[Check], place: Place) -> list[str]:
    return [outcome.check.name for outcome in run_checks(checks, place, lambda line: None) if outcome.word == "FAILED"]


def test_the_network_reads_the_clip_that_was_loaded(place: Place) -> None:
    checks = {check.name: check for check in network_checks(SMALL, SMALL)}
    (reads,) = (check for name, check in checks.items() if "loaded" in name)
    reads.run(place)
    (replays,) = (check for name, check in checks.items() if "allocate nothing" in name)
    with pytest.raises(LeftOutError):
        replays.run(place)


@pytest.mark.parametrize(("iou", "passes"), [(0.9991, True), (0.994, False)])
def test_masks_in_half_precision_are_held_to_float32(
    iou: float, passes: bool, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[Form]()

    def prepare(bench: Bench, form: Form) -> Way:
        asked.append(form)
        return Way(lambda: None, 0.0, None, iou)

    monkeypatch.setattr(Bench, "prepare", prepare)
    checks = [check for check in network_checks(SMALL, SMALL) if "masks of" in check.name]
    assert failed(checks, place) == ([] if passes else [check.name for check in checks])
    assert [(form.dtype, form.captured) for form in asked] == [("float16", True), ("bfloat16", True), ("float32", True)]


def test_outcomes_are_told_apart(place: Place) -> None:
    def left_out(_: Place) -> None:
        raise LeftOutError("no toolkit")

    def wrong(_: Place) -> None:
        raise AssertionError("the error is 3.00 times what is allowed")

    def broken(_: Place) -> None:
        raise RuntimeError("CUDA error: an illegal memory access")

    said = list[str]()
    runs: dict[str, Callable[[Place], None]] = {"a": lambda _: None, "b": left_out, "c": wrong, "d": broken}
    checks = [Check(name, "kernels", run) for name, run in runs.items()]
    outcomes = run_checks(checks, place, said.append, clock=lambda: 0.0)
    assert [outcome.word for outcome in outcomes] == ["ok", "left out", "FAILED", "FAILED"]
    assert said == [
        "ok        a, 0.0 s",
        "left out  b, 0.0 s: no toolkit",
        "FAILED    c, 0.0 s: AssertionError: the error is 3.00 times what is allowed",
        "FAILED    d, 0.0 s: RuntimeError: CUDA error: an illegal memory access",
    ]


def test_the_command_ends_with_1_where_a_check_failed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    words = ["--device", "cpu", "--folder", str(tmp_path)]
    monkeypatch.setattr(command, "list_checks", lambda *_: [Check("a", "kernels", lambda _: None)])
    assert command.main(words) == 0

    def wrong(_: Place) -> None:
        raise AssertionError("no")

    monkeypatch.setattr(command, "list_checks", lambda *_: [Check("a", "kernels", wrong, small=True)])
    assert command.main([*words, "--small"]) == 1
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert command.main([]) == 3


def test_a_part_whose_packages_are_missing_is_left_out(monkeypatch: pytest.MonkeyPatch, place: Place) -> None:
    monkeypatch.setitem(sys.modules, "loadtests.gpu.checks.service_checks", None)
    (outcome,) = run_checks(command.list_checks(["service"]), place, lambda line: None)
    assert outcome.word == "left out"
    assert "service_checks" in outcome.why


SANITIZER = "#!/bin/sh\necho '========= COMPUTE-SANITIZER'\n{body}\n"


def sanitizer(folder: Path, body: str) -> dict[str, str]:
    """Install a stand-in for the tool; returns the environment that finds it."""
    program = folder / "bin" / "compute-sanitizer"
    program.parent.mkdir()
    program.write_text(SANITIZER.format(body=body))
    program.chmod(0o755)
    return {"PATH": "/usr/bin:/bin", "CUDA_HOME": str(folder)}


def test_compute_sanitizer_is_looked_for_and_its_absence_said(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sanitizer_checks, "USUAL_HOME", tmp_path / "none")
    with pytest.raises(LeftOutError, match="comes with the CUDA toolkit"):
        sanitizer_checks.run_sanitizer("memcheck", place, environ={"PATH": str(tmp_path)})
    found = sanitizer_checks.find_sanitizer(sanitizer(tmp_path, "exit 0"))
    assert found == str(tmp_path / "bin" / "compute-sanitizer")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (
            "echo '========= Invalid __global__ read of size 4 bytes'; exit 9",
            "racecheck found something: .*Invalid __global__ read",
        ),
        ("exit 3", "the checks under racecheck ended with 3"),
        ('test "$PYTORCH_NO_CUDA_MEMORY_CACHING" = 1 || exit 9; echo "$@" > "$CUDA_HOME/asked"', None),
    ],
)
def test_what_compute_sanitizer_finds_is_a_failure(body: str, words: str | None, place: Place, tmp_path: Path) -> None:
    environ = sanitizer(tmp_path, body)
    if words is None:
        sanitizer_checks.run_sanitizer("racecheck", place, environ=environ)
        asked = (tmp_path / "asked").read_text()
        assert asked.startswith("--tool racecheck --error-exitcode 9")
        assert "-m loadtests.gpu.checks --only kernels --small" in asked
    else:
        with pytest.raises(AssertionError, match=words):
            sanitizer_checks.run_sanitizer("racecheck", place, environ=environ)
