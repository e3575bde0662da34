"""The adapter to the server's python backend, under a fake of that backend."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from auralsam2_client.contract import Reason
from model_repository.stage_runtime.engine import EngineError, file_sha256
from model_repository.stage_runtime.engine.refusals import Refusal

CONFIG = {
    "input": [{"name": "X", "data_type": "TYPE_FP32", "dims": ["2", "3"]}],
    "output": [
        {"name": "Y", "data_type": "TYPE_FP32", "dims": [2, 3]},
        {"name": "Z", "data_type": "TYPE_FP32", "dims": [2]},
    ],
}


class CardGone(Refusal):
    reason = Reason.UNREADY


@pytest.fixture
def arguments(tmp_path: Path) -> dict[str, str]:
    """What the server gives `initialize`."""
    file = tmp_path / "doubler" / "1" / "model.onnx"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"a graph")
    parameters = {"engine": "openvino", "precision": "float32", "frames_per_call": "1", "sha256": file_sha256(file)}
    parameters |= {"max_clips_in_flight": "9"}
    config = CONFIG | {"parameters": {key: {"string_value": value} for key, value in parameters.items()}}
    return {
        "model_name": "doubler",
        "model_version": "1",
        "model_repository": str(tmp_path / "doubler"),
        "model_config": json.dumps(config),
    }


@pytest.fixture
def started(
    adapter: ModuleType, arguments: dict[str, str], arithmetic_engine: Any, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """A StageModel over the arithmetic engine, initialised."""

    def start(frames_per_call: int = 1) -> Any:
        config = json.loads(arguments["model_config"])
        config["parameters"]["frames_per_call"]["string_value"] = str(frames_per_call)
        monkeypatch.setattr(adapter, "load_engine", lambda *a, **options: arithmetic_engine(frames_per_call))
        model = adapter.StageModel()
        model.initialize(arguments | {"model_config": json.dumps(config)})
        return model

    return start


def x(first: float = 0.0) -> Any:
    return np.arange(6, dtype=np.float32).reshape(2, 3) + np.float32(first)


def test_an_altered_model_file_stops_the_start(adapter: ModuleType, arguments: dict[str, str]) -> None:
    (Path(arguments["model_repository"]) / "1" / "model.onnx").write_bytes(b"a grape")
    with pytest.raises(EngineError, match=r"model\.onnx: SHA-256 .* the file was altered"):
        adapter.StageModel().initialize(arguments)


def test_the_engine_gets_what_the_configuration_says(
    adapter: ModuleType,
    arguments: dict[str, str],
    arithmetic_engine: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    seen: list[Any] = []

    def load(*positional: Any, **options: Any) -> Any:
        seen.append((positional, options))
        return arithmetic_engine(1)

    monkeypatch.setattr(adapter, "load_engine", load)
    monkeypatch.setenv("AURALSAM2_CACHE_DIR", str(tmp_path / "cache"))
    adapter.StageModel().initialize(arguments)
    path = Path(arguments["model_repository"]) / "1" / "model.onnx"
    assert seen == [(("openvino", path), {"precision": "float32", "cache_dir": tmp_path / "cache"})]


def test_a_configuration_that_is_not_the_graphs_stops_the_start(
    adapter: ModuleType, arguments: dict[str, str], arithmetic_engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "load_engine", lambda *a, **options: arithmetic_engine(2))
    with pytest.raises(EngineError, match="X is"):
        adapter.StageModel().initialize(arguments)


@pytest.mark.parametrize("frames_per_call", [1, 2])
def test_a_good_request_is_answered(frames_per_call: int, started: Callable[..., Any], backend: Any) -> None:
    (response,) = started(frames_per_call).execute([backend.request({"X": x()}, ["Y", "Z"])])
    assert response.error is None
    np.testing.assert_array_equal(response.arrays()["Y"], 2 * x())
    np.testing.assert_array_equal(response.arrays()["Z"], x().mean(axis=1))
    assert not backend.log


@pytest.mark.parametrize("outputs", [["Z"], ["Y"], []])
def test_only_the_outputs_asked_for_are_sent(outputs: list[str], started: Callable[..., Any], backend: Any) -> None:
    (response,) = started().execute([backend.request({"X": x()}, outputs)])
    assert list(response.arrays()) == outputs


def test_a_bad_request_fails_alone(started: Callable[..., Any], backend: Any) -> None:
    bad, wide = x(), np.zeros((2, 4), np.float32)
    bad[1, 0] = np.nan
    requests = [backend.request({"X": value}, ["Y"]) for value in (x(), bad, wide, x(10))]
    good, nan, shape, last = started().execute(requests)
    np.testing.assert_array_equal(good.arrays()["Y"], 2 * x())
    np.testing.assert_array_equal(last.arrays()["Y"], 2 * x(10))
    assert nan.error.code == shape.error.code == "INVALID_ARG"
    assert nan.error.message.startswith("[bad_request] X: nan at [1, 0]")
    assert shape.error.message.startswith("[bad_request] X: float32 [2, 4]; must be float32 [2, 3]")
    assert not nan.output_tensors
    assert not backend.log, "a caller's mistake is not the operator's business"


@pytest.mark.parametrize("frames_per_call", [1, 2])
def test_answers_of_one_batch_do_not_share_memory(
    frames_per_call: int, started: Callable[..., Any], backend: Any
) -> None:
    """The server reads the answers after the last of them was computed."""
    first, second = started(frames_per_call).execute([backend.request({"X": x(n)}, ["Y", "Z"]) for n in (0, 100)])
    np.testing.assert_array_equal(first.arrays()["Y"], 2 * x())
    np.testing.assert_array_equal(first.arrays()["Z"], x().mean(axis=1))
    np.testing.assert_array_equal(second.arrays()["Y"], 2 * x(100))


def test_a_cancelled_request_is_not_computed(started: Callable[..., Any], backend: Any) -> None:
    model = started()
    cancelled, good = model.execute([backend.request({"X": x()}, ["Y"], cancelled=n == 0) for n in (0, 1)])
    assert cancelled.error.code == "CANCELLED"
    assert cancelled.error.message.startswith("[cancelled] doubler: cancelled")
    np.testing.assert_array_equal(good.arrays()["Y"], 2 * x())
    assert model._stage._engine.calls == 2, "two frames of the one request that was not cancelled"


def test_our_own_error_is_logged_and_answered_without_its_text(
    started: Callable[..., Any], backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = started()

    def break_down(inputs: Any) -> Any:
        raise RuntimeError("/srv/secret/model.onnx, line 12: primitive failed")

    monkeypatch.setattr(type(model._stage), "__call__", lambda stage, inputs: break_down(inputs))
    (response,) = model.execute([backend.request({"X": x()}, ["Y"])])
    assert response.error.code == "INTERNAL"
    assert response.error.message == "[fault] doubler: failed inside the server; see its log."
    (line,) = backend.log
    for part in ("doubler", "clip-7", "primitive failed"):
        assert part in line


def test_what_a_card_failed_with_is_told_and_logged(
    started: Callable[..., Any], backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = started()
    monkeypatch.setattr(type(model._stage), "__call__", lambda stage, inputs: 1 / 0)
    monkeypatch.setattr(type(model), "explain", lambda self, error: CardGone("a card is gone"))
    (response,) = model.execute([backend.request({"X": x()}, ["Y"])])
    assert (response.error.code, response.error.message) == ("UNAVAILABLE", "[unready] a card is gone")
    assert "ZeroDivisionError" in backend.log[0]
