"""How large tensors become is measured, tensor by tensor."""

import numpy as np
import pytest

from export.precision.largest_values import largest_values
from export.precision.type_rules import LARGEST
from tests.export.overflow import near_overflow
from tests.export.precision.small_graphs import Write, node


def test_the_largest_values_name_what_would_overflow(write: Write) -> None:
    source = write(node("MatMul", "X W", "A"), node("Mul", "A FACTOR", "B"), node("Relu", "B", "Y"), FACTOR=-1e4)
    x = np.ones((2, 8), np.float32)
    x[:, 1:] = 0
    largest = largest_values(source, {"X": x})
    assert largest == pytest.approx({"A": 1.0, "B": 1e4, "Y": 1e4})
    assert largest_values(source, {"X": x}, {"X": -3 * x}, {"X": x}) == pytest.approx({"A": 3.0, "B": 3e4, "Y": 1e4})
    assert near_overflow({"A": 1.0, "B": 16000.0, "C": 17000.0, "D": np.inf, "E": np.nan}, "float16") == ("C", "D", "E")
    assert near_overflow({"C": 17000.0}, "bfloat16") == ()
    assert float(np.finfo(np.float16).max) == LARGEST["float16"]
