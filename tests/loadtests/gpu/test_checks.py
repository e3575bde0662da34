"""The checks of a card, tried without one: what is right passes, what is wrong is found, what is missing is said."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from kernels import operators
from loadtests.cases import Case
from loadtests.gpu.callers import Calls
from loadtests.gpu.checks import __main__ as command
from loadtests.gpu.checks import kernel_checks, sanitizer_checks, service_checks
from loadtests.gpu.checks.check import Check, LeftOutError, Place, run_checks
from loadtests.gpu.checks.network_checks import network_checks

SMALL = Case("compact", 224, 2)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place("cpu", tmp_path)


def failed(checks: list[Check], place: Place) -> list[str]:
    return [outcome.check.name for outcome in run_checks(checks, place, lambda line: None) if outcome.word == "FAILED"]


def small_kernel_checks(operator: str = "") -> list[Check]:
    return [check for check in kernel_checks.kernel_checks() if check.small and check.name.startswith(operator)]


def test_every_operator_is_checked_in_every_type_at_served_and_awkward_sizes() -> None:
    names = [check.name for check in kernel_checks.kernel_checks()]
    assert len(names) == len(set(names))
    for operator in ("fusion, released", "fusion, paper", "memory attention", "depth-wise GELU"):
        for dtype in ("float32", "float16", "bfloat16"):
            own = [name for name in names if name.startswith(operator) and name.endswith(dtype)]
            assert any("64 x 64" in name for name in own)
            assert len(own) >= 6
        assert f"{operator}: one percent is found" in names
        assert f"{operator}: its kernel runs" in names


def test_the_operators_pass_here(place: Place) -> None:
    """With the PyTorch forms that a CPU runs; the kernels themselves are interpreted in tests/kernels/."""
    assert failed(small_kernel_checks(), place) == []


def test_an_operator_that_is_wrong_is_found(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = operators.memory_attention
    monkeypatch.setattr(operators, "memory_attention", lambda *given: plain(*given) * 1.02)
    assert "memory attention, 14 x 14, float32" in failed(small_kernel_checks("memory attention"), place)


def test_an_element_that_is_not_written_is_found(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = operators.depthwise_gelu

    def forgetful(*given: Any) -> torch.Tensor:
        out = torch.empty_like(given[0])
        out[:, 1:] = plain(*given)[:, 1:]
        return out

    monkeypatch.setattr(operators, "depthwise_gelu", forgetful)
    found = failed(small_kernel_checks("depth-wise"), place)
    # One pixel has nothing but the element that is left out.
    assert {name.rpartition(", ")[0] for name in found} == {"depth-wise GELU, 7 x 7", "depth-wise GELU, one pixel"}


# Of one key nothing but its value is read, whatever is asked.
SENSITIVE = [shape for shape in kernel_checks.shapes() if shape.small and shape.name != "one key"]


@pytest.mark.parametrize("shape", SENSITIVE, ids=lambda shape: f"{shape.operator}, {shape.name}")
def test_one_percent_is_seen(shape: kernel_checks.Shape, place: Place) -> None:
    kernel_checks._is_sensitive(shape, place)


def test_bits_that_change_are_found(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = next(shape for shape in kernel_checks.shapes() if shape.name == "7 x 7")
    kernel_checks._repeats(shape, torch.float32, place)
    plain, calls = operators.memory_attention, list[int]()

    def restless(*given: Any) -> torch.Tensor:
        calls.append(1)
        return plain(*given) + (1e-6 if len(calls) == 9 else 0)

    monkeypatch.setattr(operators, "memory_attention", restless)
    with pytest.raises(AssertionError, match="run 8 differs"):
        kernel_checks._repeats(shape, torch.float32, place)


def test_a_kernel_that_did_not_run_is_found(place: Place) -> None:
    shape = next(shape for shape in kernel_checks.shapes() if shape.name == "7 x 7")
    with pytest.raises(AssertionError, match="attend_memory is not among no kernels"):
        kernel_checks._runs(shape, place)


def test_the_network_reads_the_clip_that_was_loaded(place: Place) -> None:
    checks = {check.name: check for check in network_checks(SMALL, SMALL)}
    (reads,) = (check for name, check in checks.items() if "loaded" in name)
    reads.run(place)
    (replays,) = (check for name, check in checks.items() if "allocate nothing" in name)
    with pytest.raises(LeftOutError):
        replays.run(place)
    (agrees,) = (check for name, check in checks.items() if "graph, float32" in name)
    agrees.run(place)


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


Held = Callable[[Any], dict[str, float]]


@contextmanager
def serve(_: Place) -> Iterator[Any]:
    yield SimpleNamespace(config=SimpleNamespace(grpc_url="127.0.0.1:1", build=Path("build")))


def soak(place: Place, held: list[float], *, failures: tuple[str, ...] = (), iou: float = 1.0) -> None:
    clock, left = [0.0], list(held)

    def call(url: str, build: Path, callers: int, seconds: float) -> list[Calls]:
        clock[0] += seconds
        return [Calls(((0.0, 1.0), (1.0, 2.0)), failures, iou)] * callers

    def measure(_: Any) -> dict[str, float]:
        return {"server": left.pop(0) * 2**20}

    service_checks._soak(serve, 60.0 * len(held), place, call=call, measure=measure, clock=lambda: clock[0])
    assert left == []


def test_a_soak_holds_answers_and_memory(place: Place) -> None:
    soak(place, [1000, 1100, 1010])
    with pytest.raises(AssertionError, match="memory of the server grew by 200 MiB in 180 s"):
        soak(place, [1000, 1100, 1200])
    with pytest.raises(AssertionError, match="4 calls failed, the first with ServerTimeout: late"):
        soak(place, [1000], failures=("ServerTimeout: late",))
    with pytest.raises(AssertionError, match=r"agree with the golden ones by 0\.9000"):
        soak(place, [1000], iou=0.9)
    assert service_checks.soak_checks(0) == []


def answer(logits: float | np.ndarray[Any, Any]) -> Any:
    return SimpleNamespace(mask_logits=np.broadcast_to(np.float32(1.0) * logits, (2, 4, 4)))


class Answers:
    """A client, and its session, that answer with the same logits, but for those that are given for one of them."""

    def __init__(self, **other: Any) -> None:
        self._other, self._rounds = other, 0

    def segment(self, *_: Any, **__: Any) -> Any:
        return answer(self._other.get("segment", 1.0))

    def session(self, *_: Any, **__: Any) -> Any:
        self._rounds += 1
        own = self._other.get(f"session_{self._rounds}", 1.0)

        @contextmanager
        def opened() -> Iterator[Any]:
            yield SimpleNamespace(segment=lambda *_: answer(own), click=lambda *_: answer(own))

        return opened()


GOLDEN: Any = SimpleNamespace(
    frames=np.zeros((2, 16, 16, 3), np.uint8),
    audio=np.zeros((2, 15600, 2), np.float32),
    reference={"CANDIDATE_LOGITS": np.ones((2, 3, 4, 4), np.float32)},
)
LEFT_HALF = np.tile(np.array([1.0, 1.0, -1.0, -1.0], np.float32), (2, 4, 1))


def test_answers_to_prompts_are_compared() -> None:
    service_checks.check_prompts(Answers(), GOLDEN)  # type: ignore[arg-type]
    for wrong, words in (
        ({"segment": np.nan}, "a point: logits are not finite"),
        ({"segment": -1.0}, "a point: every mask is empty"),
        ({"session_2": LEFT_HALF}, r"round 1 of a session agrees with the same round of another by 0\.5000"),
        ({"session_1": LEFT_HALF, "session_2": LEFT_HALF}, "round 1 of a session agrees with one request"),
    ):
        with pytest.raises(AssertionError, match=words):
            service_checks.check_prompts(Answers(**wrong), GOLDEN)  # type: ignore[arg-type]


def test_answers_by_sound_are_compared() -> None:
    logits = [np.ones((2, 3, 4, 4), np.float32)] * 2

    def client(*answers: Any) -> Any:
        left = list(answers)
        return SimpleNamespace(infer=lambda *_, **__: {"CANDIDATE_LOGITS": left.pop(0)})

    service_checks.check_sound(client(*logits), GOLDEN)
    with pytest.raises(AssertionError, match=r"by sound agree with the network by 0\.0000"):
        service_checks.check_sound(client(-logits[0], -logits[1]), GOLDEN)
    with pytest.raises(AssertionError, match="CANDIDATE_LOGITS of the same clip differs"):
        service_checks.check_sound(client(logits[0], 2 * logits[1]), GOLDEN)


def test_memory_of_a_process_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_checks, "smi", lambda query: {"memory.used": "2048"})
    launcher: Any = SimpleNamespace(pid=os.getpid(), stage_pids=[])
    alone = service_checks.held_bytes(launcher)
    assert alone["card"] == 2048 * 2**20
    assert alone["server"] > 1e6
    launcher.stage_pids.append(os.getpid())
    assert service_checks.held_bytes(launcher)["server"] > 1.5 * alone["server"]
