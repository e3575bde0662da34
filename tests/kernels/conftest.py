"""The interpreter, made to round as a tensor core does.

Triton's interpreter multiplies bfloat16 tiles as the integers that store them, cuts where the hardware rounds to the
nearest, and takes no notice of `input_precision`. Here it does all three as the instructions do: bfloat16 products are
exact in float32, "tf32" keeps 10 bits of each factor, "tf32x3" adds the products with what was left over.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor


def nearest(bits: np.ndarray, dropped: int) -> np.ndarray:
    """Float32 bit patterns rounded to the nearest, ties to even, with the last `dropped` bits cleared."""
    half = (1 << (dropped - 1)) - 1
    odd = (bits >> np.uint32(dropped)) & np.uint32(1)
    return (bits + np.uint32(half) + odd) & ~np.uint32((1 << dropped) - 1)


def to_tf32(values: np.ndarray) -> np.ndarray:
    return nearest(values.astype(np.float32).view(np.uint32), 13).view(np.float32)


def multiply(a: np.ndarray, b: np.ndarray, precision: str) -> np.ndarray:
    """Float32 matrices as tensor cores multiply them."""
    if precision == "ieee":
        return np.matmul(a, b)
    high_a, high_b = to_tf32(a), to_tf32(b)
    if precision == "tf32":
        return np.matmul(high_a, high_b)
    low_a, low_b = to_tf32(a - high_a), to_tf32(b - high_b)
    return np.matmul(low_a, high_b) + np.matmul(high_a, low_b) + np.matmul(high_a, high_b)


@pytest.fixture(scope="session", autouse=True)
def _interpreter_rounds_as_hardware() -> Iterator[None]:
    if torch.cuda.is_available():
        yield
        return
    import triton.language as tl
    from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

    cast = InterpreterBuilder.cast_impl

    def as_float32(handle: Any) -> np.ndarray:
        if handle.dtype.scalar == tl.bfloat16:
            return np.asarray((handle.data.astype(np.uint32) << 16).view(np.float32))
        return np.asarray(handle.data.astype(np.float32))

    def create_dot(self: Any, a: Any, b: Any, d: Any, input_precision: Any, max_num_imprecise_acc: Any) -> Any:
        precision = input_precision.name.lower() if a.dtype.scalar == tl.float32 else "ieee"
        product = multiply(as_float32(a), as_float32(b), precision)
        return TensorHandle(product + d.data, d.dtype.scalar)

    def cast_impl(self: Any, src: Any, dst_type: Any) -> Any:
        if src.dtype.scalar == tl.float32 and dst_type.scalar == tl.bfloat16:
            finite = np.isfinite(src.data)
            bits = np.ascontiguousarray(src.data).view(np.uint32)
            rounded = np.where(finite, nearest(bits, 16), bits)
            return TensorHandle((rounded >> np.uint32(16)).astype(np.uint16), dst_type.scalar)
        return cast(self, src, dst_type)

    def create_fp_to_fp(self: Any, src: Any, dst_type: Any, rounding_mode: Any) -> Any:
        return self.cast_impl(src, dst_type)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(InterpreterBuilder, "create_dot", create_dot)
        patch.setattr(InterpreterBuilder, "cast_impl", cast_impl)
        patch.setattr(InterpreterBuilder, "create_fp_to_fp", create_fp_to_fp)
        for name in ("create_fp_trunc", "create_fp_ext"):
            patch.setattr(InterpreterBuilder, name, lambda self, src, dst_type: self.cast_impl(src, dst_type))
        yield


@pytest.fixture
def not_a_number() -> Callable[..., Tensor]:
    """Memory as a kernel must not trust it: `torch.empty`, filled with NaN."""

    def empty(*shape: Any, **options: Any) -> Tensor:
        return torch.empty(*shape, **options).fill_(float("nan"))

    return empty
