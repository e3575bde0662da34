"""What a stage does with a request, on a graph that is arithmetic."""

from typing import Any

import numpy as np
import pytest

from model_repository.stage_runtime.engine import EngineError
from model_repository.stage_runtime.engine.refusals import BadRequest
from model_repository.stage_runtime.engine.stage import Stage, TensorShape

T = 4
FLOAT, BYTE = np.dtype(np.float32), np.dtype(np.uint8)
X, Y, Z = TensorShape("X", FLOAT, (T, 3)), TensorShape("Y", FLOAT, (T, 3)), TensorShape("Z", FLOAT, (T,))
EXTRA = TensorShape("EXTRA", FLOAT, (T, 2))


def clip() -> dict[str, Any]:
    draw = np.random.default_rng(0)
    return {"X": draw.normal(size=(T, 3)).astype(np.float32), "EXTRA": np.ones((T, 2), np.float32)}


@pytest.mark.parametrize(("frames_per_call", "calls"), [(1, 4), (2, 2), (4, 1)])
def test_a_loop_over_frames_equals_one_call(frames_per_call: int, calls: int, arithmetic_engine: Any) -> None:
    engine = arithmetic_engine(frames_per_call)
    inputs = clip()
    answer = Stage(engine, [X], [Y, Z], frames_per_call)(inputs)
    assert engine.calls == calls
    np.testing.assert_array_equal(answer["Y"], 2 * inputs["X"])
    np.testing.assert_array_equal(answer["Z"], inputs["X"].mean(axis=1))


@pytest.mark.parametrize("frames_per_call", [1, 4])
def test_what_the_graph_does_not_take_is_handed_on_untouched(frames_per_call: int, arithmetic_engine: Any) -> None:
    inputs = clip()
    answer = Stage(arithmetic_engine(frames_per_call), [X, EXTRA], [Y, Z, EXTRA], frames_per_call)(inputs)
    assert set(answer) == {"Y", "Z", "EXTRA"}
    assert answer["EXTRA"] is inputs["EXTRA"]
    np.testing.assert_array_equal(answer["Y"], 2 * inputs["X"])


@pytest.mark.parametrize("frames_per_call", [1, 4])
def test_a_copied_answer_outlives_the_next_call(frames_per_call: int, arithmetic_engine: Any) -> None:
    stage = Stage(arithmetic_engine(frames_per_call), [X], [Y, Z], frames_per_call)
    inputs = clip()
    first = {name: value.copy() for name, value in stage(inputs).items()}
    second = stage({"X": inputs["X"] + 1})
    np.testing.assert_array_equal(first["Y"], 2 * inputs["X"])
    np.testing.assert_array_equal(second["Y"], 2 * (inputs["X"] + 1))


@pytest.mark.parametrize("name", ["X", "EXTRA"])
@pytest.mark.parametrize(("bad", "word"), [(np.nan, "nan"), (np.inf, "inf"), (-np.inf, "-inf")])
def test_a_value_that_is_not_finite_is_refused_with_its_place(
    name: str, bad: float, word: str, arithmetic_engine: Any
) -> None:
    engine = arithmetic_engine(1)
    stage = Stage(engine, [X, EXTRA], [Y, Z, EXTRA], 1)
    inputs = clip()
    inputs[name][2, 1] = bad
    with pytest.raises(BadRequest, match=rf"^{name}: {word} at \[2, 1\]; every value must be finite\. Mend"):
        stage(inputs)
    assert engine.calls == 0


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (np.zeros((T, 4), np.float32), r"float32 \[4, 4\]"),
        (np.zeros((T + 1, 3), np.float32), r"float32 \[5, 3\]"),
        (np.zeros((1, 3), np.float32), r"float32 \[1, 3\]"),
        (np.zeros(3 * T, np.float32), r"float32 \[12\]"),
        (np.zeros((T, 3), np.float64), r"float64 \[4, 3\]"),
        (np.zeros((T, 3), np.uint8), r"uint8 \[4, 3\]"),
    ],
)
def test_another_shape_or_type_is_refused(value: Any, said: str, arithmetic_engine: Any) -> None:
    engine = arithmetic_engine(1)
    with pytest.raises(BadRequest, match=rf"^X: {said}; must be float32 \[4, 3\]\.$"):
        Stage(engine, [X], [Y, Z], 1)({"X": value})
    assert engine.calls == 0


def test_bytes_are_not_asked_whether_they_are_finite() -> None:
    class Brightness:
        input_shapes = {"X": (T, 3)}  # noqa: RUF012
        output_shapes = {"Z": (T,)}  # noqa: RUF012

        def __call__(self, inputs: Any) -> Any:
            return {"Z": inputs["X"].mean(axis=1, dtype=np.float32)}

    stage = Stage(Brightness(), [TensorShape("X", BYTE, (T, 3))], [Z], T)
    np.testing.assert_array_equal(stage({"X": np.full((T, 3), 255, np.uint8)})["Z"], np.full(T, 255))


@pytest.mark.parametrize(
    ("inputs", "outputs", "frames_per_call", "said"),
    [
        ([TensorShape("X", FLOAT, (T, 9))], [Y, Z], 1, r"X is \[1, 3\] in the graph, \(1, 9\) in config.pbtxt"),
        ([X], [TensorShape("Y", FLOAT, (T, 9)), Z], 1, r"Y is \[1, 3\] in the graph"),
        ([X], [Y], 1, r"Z is \[1\] in the graph, None in config.pbtxt"),
        ([EXTRA], [Y, Z, EXTRA], 1, r"X is \[1, 3\] in the graph, None"),
        ([X], [Y, Z], 2, r"X is \[1, 3\] in the graph, \(2, 3\)"),
        ([X], [Y, Z, EXTRA], 1, r"outputs that the graph does not give: \['EXTRA'\]"),
        ([X], [Y, Z], 3, r"frames_per_call 3 does not divide the clip's 4 frames"),
        ([X, EXTRA], [Y, Z, TensorShape("EXTRA", BYTE, (T, 2))], 1, "EXTRA is handed on"),
        ([X, EXTRA], [Y, Z, TensorShape("EXTRA", FLOAT, (T, 7))], 1, "EXTRA is handed on"),
    ],
)
def test_a_configuration_that_is_not_the_graphs_does_not_start(
    inputs: list[TensorShape],
    outputs: list[TensorShape],
    frames_per_call: int,
    said: str,
    arithmetic_engine: Any,
) -> None:
    with pytest.raises(EngineError, match=said):
        Stage(arithmetic_engine(1), inputs, outputs, frames_per_call)
