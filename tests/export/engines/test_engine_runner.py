"""Running an engine: its buffers, what it refuses, and what it leaves, through stand-ins for card and package."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.engines.cuda_driver import CudaMemory
from export.engines.engine_runner import LoadedEngine, load_runtime
from export.errors import ExportError
from tests.export.engines.engine_stand_ins import FakeDriver, FakeEngine, FakeRuntime, fake_package


@pytest.fixture
def driver() -> FakeDriver:
    return FakeDriver()


@pytest.fixture
def vggish(small_graphs: dict[str, Path]) -> Path:
    return small_graphs["vggish"]


def test_an_engine_answers_as_its_graph(driver: FakeDriver, vggish: Path, small_clip: dict[str, Any]) -> None:
    with LoadedEngine(vggish, fake_package(), CudaMemory(driver)) as engine:
        assert engine.input_shapes == {"AUDIO": (2, 15600, 2)}
        found = engine({"AUDIO": small_clip["AUDIO"]})["AUDIO_TOKENS"].copy()
        again = engine({"AUDIO": small_clip["AUDIO"] * 0})["AUDIO_TOKENS"]
        assert not np.array_equal(found, again)
        assert found.shape == engine.output_shapes["AUDIO_TOKENS"]
    wanted = FakeEngine(vggish.read_bytes()).session.run(None, {"AUDIO": small_clip["AUDIO"]})[0]
    np.testing.assert_array_equal(found, wanted)
    assert driver.buffers == {}
    assert driver.synchronized == 2


@pytest.mark.parametrize("wrong", [np.zeros((1, 15600, 2), np.float32), np.zeros((2, 15600, 2), np.float64)])
def test_another_shape_or_type_is_refused(driver: FakeDriver, vggish: Path, wrong: Any) -> None:
    with (
        LoadedEngine(vggish, fake_package(), CudaMemory(driver)) as engine,
        pytest.raises(ExportError, match=r"AUDIO is float\d\d .*; the engine takes float32 \[2, 15600, 2\]"),
    ):
        engine({"AUDIO": wrong})


def test_an_engine_of_another_version_does_not_load(driver: FakeDriver, vggish: Path) -> None:
    class Older(FakeRuntime):
        loads = False

    with pytest.raises(ExportError, match=r"model\.onnx does not load on this card with tensorrt 11\.4"):
        LoadedEngine(vggish, fake_package(Older), CudaMemory(driver))


def test_too_little_memory_for_the_engine(driver: FakeDriver, vggish: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeEngine, "create_execution_context", lambda self: None)
    with pytest.raises(ExportError, match=r"not enough GPU memory: the engine wants 123456 bytes .* 1073741824 of"):
        LoadedEngine(vggish, fake_package(), CudaMemory(driver))


def test_the_package_that_runs_engines_is_named() -> None:
    with pytest.raises(ExportError, match="no_such_package is not installed"):
        load_runtime("no_such_package")
