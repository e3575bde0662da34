"""Sizes that record what is computed from them: a plan written for numbers, put to the integers of TensorRT."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kernels.launching.errors import KernelError
from kernels.launching.launch import Size


class Expression:
    """A whole number computed from named sizes with +, -, * and //. Anything else that a plan tries on it raises."""

    def __init__(self, operation: str, *operands: Any) -> None:
        # a * b and b * a are one number, and are to be found as one.
        self.operation = operation
        self.operands = tuple(sorted(operands, key=repr)) if operation in ("+", "*") else operands

    def __add__(self, other: Size) -> "Expression":
        return Expression("+", self, other)

    def __mul__(self, other: Size) -> "Expression":
        return Expression("*", self, other)

    __radd__, __rmul__ = __add__, __mul__

    def __sub__(self, other: Size) -> "Expression":
        return Expression("-", self, other)

    def __rsub__(self, other: Size) -> "Expression":
        return Expression("-", other, self)

    def __floordiv__(self, other: Size) -> "Expression":
        return Expression("//", self, other)

    def __rfloordiv__(self, other: Size) -> "Expression":
        return Expression("//", other, self)

    def __repr__(self) -> str:
        if self.operation == "size":
            return str(self.operands[0])
        return f"({f' {self.operation} '.join(map(repr, self.operands))})"

    def __hash__(self) -> int:
        return hash(repr(self))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Expression):
            raise KernelError(f"a plan compares the size {self} with {other!r}; it is known when the engine runs only.")
        return repr(self) == repr(other)

    def __bool__(self) -> bool:
        raise KernelError(f"a plan asks whether the size {self} is zero; it is known when the engine runs only.")


Values = Mapping[Expression, Any]


def evaluate(size: Size, values: Values, lift: Callable[[int], Any] = int) -> Any:
    """Evaluate `size` with numbers, or TensorRT's symbolic integers, for what `values` holds.

    Args:
        values: named sizes, and whole expressions that some axis is known to have.
        lift: makes an integer into what `values` holds; TensorRT's integers take plain ones on their right only.
    Raises: KernelError for a named size without a value.
    """
    if not isinstance(size, Expression):
        return size
    if size in values:
        return values[size]
    if size.operation == "size":
        raise KernelError(f"the size {size} has no value here; known are {', '.join(map(repr, values))}.")
    left, right = (evaluate(operand, values, lift) for operand in size.operands)
    if isinstance(left, int) and not isinstance(right, int):
        left = lift(left)
    return {
        "+": lambda: left + right,
        "-": lambda: left - right,
        "*": lambda: left * right,
        "//": lambda: left // right,
    }[size.operation]()


def unknown(size: Size, values: Values) -> list[Expression]:
    """List the named sizes that `evaluate` would miss."""
    if not isinstance(size, Expression) or size in values:
        return []
    if size.operation == "size":
        return [size]
    return [name for operand in size.operands for name in unknown(operand, values)]


def named_axes(shape: Sequence[Size], given: Sequence[Any]) -> dict[Expression, Any]:
    """List the axes of a shape that are expressions, and what `given` has in their places."""
    return {axis: value for axis, value in zip(shape, given, strict=True) if isinstance(axis, Expression)}
