"""How much memory and how many files grew during a load."""

import pytest

from loadtests.resources import Reading, growth


def test_growth_is_from_the_first_to_the_last_tenth_after_the_warm_up() -> None:
    readings = [Reading(float(n), 1000 if n < 20 else 100 + n, 50, 5, 0) for n in range(121)]
    found = growth(readings, warm_up_s=20)
    assert found["resident_bytes"] == pytest.approx(215.5 / 124.5 - 1)
    assert found["open_files"] == found["shared_memory_bytes"] == 0
    with pytest.raises(ValueError, match="1 readings"):
        growth(readings, warm_up_s=120)
