"""Sizes as expressions: the numbers they stand for, and what they refuse."""

from collections.abc import Callable

import pytest

from kernels.launching.errors import KernelError
from kernels.launching.launch import Size, cdiv
from kernels.plugins.symbolic_sizes import Expression, evaluate
from tests.kernels.plugins.plugin_stand_ins import Symbol, named

T, P = Expression("size", "T"), Expression("size", "P")


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (cdiv(T * P, 64), (3 * 77 + 63) // 64),
        (4 * T - 1, 11),
        (100 - P, 23),
        (1000 // P + T, 15),
        ((T + P) * (P - T), 80 * 74),
        (7, 7),
    ],
)
def test_expressions(size: Size, expected: int) -> None:
    sizes = {"T": 3, "P": 77}
    assert evaluate(size, {T: 3, P: 77}) == expected
    symbolic = evaluate(size, {T: named("T"), P: named("P")}, Symbol)
    assert (symbolic.at(sizes) if isinstance(symbolic, Symbol) else symbolic) == expected


def test_a_known_product_stands_for_its_factors() -> None:
    assert evaluate(cdiv(P * T, 4), {T * P: 30}) == 8
    with pytest.raises(KernelError, match=r"the size T has no value here; known are \(P \* T\)"):
        evaluate(T + 1, {T * P: 30})


@pytest.mark.parametrize("attempt", [lambda: T == 3, lambda: T != 3, lambda: bool(T)])
def test_decisions_on_sizes_are_refused(attempt: Callable[[], object]) -> None:
    with pytest.raises(KernelError, match="it is known when the engine runs only"):
        attempt()


@pytest.mark.parametrize("attempt", [lambda: T < 3, lambda: T % 4, lambda: range(T), lambda: T / 2, lambda: int(T)])
def test_other_operations_do_not_exist(attempt: Callable[[], object]) -> None:
    with pytest.raises(TypeError):
        attempt()
