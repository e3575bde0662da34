"""Where an enlarged map is above 0 is told by signs and at edges alone: the same, to the bit, as by all arithmetic."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from auralsam2_client import enlarging
from auralsam2_client.enlarging import above_zero, enlarge, part, taps

MAPS = hnp.arrays(np.float32, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.floats(-2, 2, width=16))


@pytest.mark.parametrize("few", [0.0, 1.0])
@given(frame=MAPS, height=st.integers(1, 50), width=st.integers(1, 50))
def test_both_ways_are_the_arithmetic(few: float, frame: NDArray[np.float32], height: int, width: int) -> None:
    """By points at edges (few = 1) and by whole bands (few = 0), as the number of edges decides."""
    before, enlarging._FEW = enlarging._FEW, few
    try:
        rows, columns = taps(frame.shape[0], height), taps(frame.shape[1], width)
        wanted = enlarge(frame, rows, columns) > 0
        np.testing.assert_array_equal(above_zero(frame, rows, columns), wanted)
        turned = above_zero(frame, rows, columns, by_column=True)
        assert turned.flags.c_contiguous
        np.testing.assert_array_equal(turned, wanted.T)
        np.testing.assert_array_equal(above_zero(frame, part(rows, 3, 9), columns), wanted[3:9])
    finally:
        enlarging._FEW = before


def test_arithmetic_is_left_for_edges(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = np.full((64, 64), -1, np.float32)
    frame[20:40, 10:50] = 1
    seen: list[int] = []
    points = enlarging._enlarged_points

    def counted(*args: NDArray[np.float32]) -> NDArray[np.float32]:
        seen.append(len(args[-1]))
        return points(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(enlarging, "_enlarged_points", counted)
    above_zero(frame, taps(64, 512), taps(64, 512))
    assert 0 < sum(seen) < 0.05 * 512 * 512
