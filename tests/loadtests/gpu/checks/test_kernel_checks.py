"""The checks of the kernels, tried without a card: what is right passes, what is wrong is found."""

from typing import Any

import pytest
import torch

from kernels import operators
from loadtests.gpu.checks import kernel_checks
from loadtests.gpu.checks.check import Check, Place, run_checks


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
        answer: torch.Tensor = plain(*given) + (1e-6 if len(calls) == 9 else 0)
        return answer

    monkeypatch.setattr(operators, "memory_attention", restless)
    with pytest.raises(AssertionError, match="run 8 differs"):
        kernel_checks._repeats(shape, torch.float32, place)


def test_a_kernel_that_did_not_run_is_found(place: Place) -> None:
    shape = next(shape for shape in kernel_checks.shapes() if shape.name == "7 x 7")
    with pytest.raises(AssertionError, match="attend_memory is not among no kernels"):
        kernel_checks._runs(shape, place)
