"""A clip through graphs in one process, by stand-ins for engines: cut into calls, put together, handed on."""

from collections.abc import Mapping

import numpy as np
import pytest

from export.graphs.chain import run_chain, run_clip, split_calls
from model_repository.stage_runtime.engine import Array

T = 4
X = np.arange(2 * T, dtype=np.float32).reshape(T, 2)


class Sums:
    """An engine that gives the sum of its inputs. Like OpenVINO, it answers in the same memory each time."""

    def __init__(self, output: str, **inputs: int) -> None:
        """Args: inputs: the rows that one call takes of each."""
        self.input_shapes: dict[str, tuple[int, ...]] = {name: (rows, 2) for name, rows in inputs.items()}
        rows = next(iter(inputs.values()))
        self.output_shapes: dict[str, tuple[int, ...]] = {output: (rows, 2)}
        self.memory, self.output, self.calls = np.empty((rows, 2), np.float32), output, 0

    def __call__(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        assert {name: value.shape for name, value in inputs.items()} == self.input_shapes
        self.calls += 1
        self.memory[:] = 0
        for value in inputs.values():
            self.memory += value.sum(0) if len(value) != len(self.memory) else value
        return {self.output: self.memory}


@pytest.mark.parametrize(("rows", "calls"), [(1, 4), (2, 2), (4, 1)])
def test_a_clip_comes_together_from_as_many_calls_as_the_graph_asks_for(rows: int, calls: int) -> None:
    engine = Sums("Y", X=rows)
    answer = run_clip(engine, {"X": X, "NOT_READ": X})
    assert engine.calls == calls
    np.testing.assert_array_equal(answer["Y"], X)
    assert not np.shares_memory(answer["Y"], engine.memory)


def test_an_input_of_another_count_is_cut_by_its_own() -> None:
    """Sound may have more rows than there are frames, in a graph that takes the whole clip."""
    engine, words = Sums("Y", X=T, WORDS=T + 3), np.ones((T + 3, 2), np.float32)
    (call,) = split_calls(engine, {"X": X, "WORDS": words})
    assert call["WORDS"].shape == (T + 3, 2)
    np.testing.assert_array_equal(run_clip(engine, {"X": X, "WORDS": words})["Y"], X + T + 3)


def test_each_graph_of_a_chain_reads_what_the_ones_before_it_wrote() -> None:
    clip = {"X": X}
    wire = run_chain({"first": Sums("Y", X=1), "second": Sums("Z", X=2, Y=2)}, clip)
    assert list(wire) == ["X", "Y", "Z"]
    np.testing.assert_array_equal(wire["Z"], 2 * X)
    assert list(clip) == ["X"]
    with pytest.raises(KeyError, match="Y"):
        run_chain({"second": Sums("Z", X=2, Y=2), "first": Sums("Y", X=1)}, clip)
