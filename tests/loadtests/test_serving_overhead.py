"""The benchmark measures what it says: the same graphs, both ways. Nothing here looks at the clock."""

from pathlib import Path

from loadtests.serving_overhead import Sample, measure


def test_both_ways_run_as_often_as_asked(compact_build: Path) -> None:
    served, bare = measure(compact_build, rounds=2)
    assert (len(served.times_s), len(bare.times_s)) == (2, 2)
    assert all(seconds > 0 for seconds in served.times_s + bare.times_s)


def test_quantiles_are_in_milliseconds() -> None:
    sample = Sample("x", [0.1, 0.2, 0.3])
    assert sample.quantile_ms(0.5) == 200.0
