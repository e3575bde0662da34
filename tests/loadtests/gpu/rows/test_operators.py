"""The rows of the operators, with small stand-ins for them, and the form that FlexAttention takes."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from kernels.memory_attention.pytorch import memory_attention
from loadtests.gpu.measuring.profile import Kernel, sum_up
from loadtests.gpu.planning.jobs import OPERATORS, OUT_OF_TIME, kernel_rows, peaks_row
from loadtests.gpu.rows import operators as operator_rows
from loadtests.gpu.rows.operators import ATTENTION, Operator, measure_operators

PEAKS = {"gemm_flop_per_s": 1e12, "copy_bytes_per_s": 1e9}


def double(x: Tensor) -> Tensor:
    return 2 * x


def refuse(x: Tensor) -> Tensor:
    raise NotImplementedError("no kernel for these widths")


def slightly_more(x: Tensor) -> Tensor:
    return 2.1 * x


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> dict[str, Operator]:
    """Operators of a few numbers, in forms that need no compiler."""

    def forms(name: str, operator: Operator) -> dict[str, Callable[..., Any]]:
        found = {"eager": operator[0], "ours": operator[1]}
        return found | ({"FlexAttention": refuse} if name == ATTENTION else {"Inductor": slightly_more})

    monkeypatch.setattr(operator_rows, "forms", forms)
    monkeypatch.setattr(operator_rows, "measure_peaks", lambda *_: PEAKS)
    return {name: (double, double, (torch.ones(4),), 1000) for name in OPERATORS}


def measure(rows: tuple[str, ...], operators: dict[str, Operator], seconds: float = 5.0) -> dict[str, dict[str, Any]]:
    kept: dict[str, dict[str, Any]] = {}
    ticks = iter(range(10_000))
    measure_operators(
        "float32", rows, "cpu", seconds, kept.__setitem__, operators=operators, clock=lambda: 0.1 * next(ticks)
    )
    return kept


def test_forms_are_timed_and_compared(stand_ins: dict[str, Operator]) -> None:
    kept = measure(kernel_rows("float32"), stand_ins)
    assert set(kept) == set(kernel_rows("float32"))
    assert kept[peaks_row("float32")]["copy_bytes_per_s"] == 1e9
    attention = kept[f"{ATTENTION}, float32"]
    assert set(attention["us"]) == {"eager", "ours"}
    assert attention["left_out"] == {"FlexAttention": "NotImplementedError: no kernel for these widths"}
    fusion = kept["fusion, paper, float32"]
    assert fusion["left_out"] == {
        "Inductor": "WrongAnswerError: Inductor is 5.0e-02 of the largest element from eager; at most 1e-03."
    }
    assert fusion["copy_floor_us"] == pytest.approx(1.0)
    assert fusion["copy_share"] == pytest.approx(1.0 / fusion["us"]["ours"]["median"])


def test_rows_that_are_not_missing_are_not_measured(stand_ins: dict[str, Operator]) -> None:
    assert set(measure(("fusion, paper, float32",), stand_ins)) == {"fusion, paper, float32", peaks_row("float32")}


def test_operators_without_time_say_so(stand_ins: dict[str, Operator]) -> None:
    kept = measure(kernel_rows("float32"), stand_ins, seconds=0.0)
    assert all(kept[f"{name}, float32"] == {"reason": OUT_OF_TIME} for name in OPERATORS)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile:UserWarning")
def test_flex_attention_reads_what_ours_reads() -> None:
    """Its own function, eager: on a card it is compiled."""
    draw = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(shape, generator=draw) for shape in ((16, 32), (37, 32), (37, 16)))
    angles = torch.rand(16, 16, generator=draw) * 6
    arguments = (query, key, value, angles.cos(), angles.sin(), 5)
    torch.testing.assert_close(operator_rows.read_by_flex_attention(*arguments), memory_attention(*arguments))


def test_launches_are_summed_by_kernel() -> None:
    assert sum_up([("gemm", 5.0), ("norm", 2.0), ("gemm", 6.0), ("x" * 200, 1.0)]) == [
        Kernel("gemm", 2, 11.0),
        Kernel("norm", 1, 2.0),
        Kernel("x" * 90, 1, 1.0),
    ]
