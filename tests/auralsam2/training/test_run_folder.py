from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from auralsam2.errors import CheckpointError, TrainingError
from auralsam2.training import run_folder
from auralsam2.training.settings import TrainSettings


def test_a_checkpoint_comes_back_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    settings = TrainSettings()
    assert run_folder.load_checkpoint(tmp_path, settings) is None
    for step in (3, 4):
        run_folder.save_checkpoint(tmp_path, settings, {"step": step, "model": {"a": torch.arange(3.0)}})
    state = run_folder.load_checkpoint(tmp_path, settings)
    assert state is not None
    assert state["step"] == 4
    assert torch.equal(state["model"]["a"], torch.arange(3.0))
    assert [path.name for path in tmp_path.iterdir()] == [run_folder.CHECKPOINT]


def test_a_write_that_fails_leaves_the_last_good_one(tmp_path: Path) -> None:
    settings = TrainSettings()
    run_folder.save_checkpoint(tmp_path, settings, {"step": 3})
    with pytest.raises(Exception, match="pickle"):
        run_folder.save_checkpoint(tmp_path, settings, {"step": lambda: None})
    state = run_folder.load_checkpoint(tmp_path, settings)
    assert state is not None
    assert state["step"] == 3


@pytest.mark.parametrize("value", [torch.nan, -torch.inf])
def test_a_network_that_is_not_finite_leaves_the_last_good_one(tmp_path: Path, value: float) -> None:
    settings = TrainSettings()
    run_folder.save_checkpoint(tmp_path, settings, {"step": 3, "model": {"a": torch.ones(2)}})
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt is not written: a: 1 of 2 values .* --learning-rate"):
        run_folder.save_checkpoint(tmp_path, settings, {"step": 4, "model": {"a": torch.tensor([1.0, value])}})
    state = run_folder.load_checkpoint(tmp_path, settings)
    assert state is not None
    assert state["step"] == 3


def test_a_file_of_something_else_is_named(tmp_path: Path) -> None:
    torch.save({"weights": torch.zeros(2)}, tmp_path / run_folder.CHECKPOINT)
    with pytest.raises(TrainingError, match="not a readable training checkpoint"):
        run_folder.load_checkpoint(tmp_path, TrainSettings())


@pytest.mark.parametrize("half", [True, False])
@pytest.mark.parametrize("value", [65504.0, 65520.0])
def test_a_value_beyond_float16_is_stored_as_it_is(tmp_path: Path, value: float, half: bool) -> None:
    state = {"a": torch.ones(2), "b": torch.tensor([1.0, value])}
    stored = load_file(run_folder.save_weights(tmp_path / "w.safetensors", state, {}, half))
    assert stored["b"].tolist() == [1.0, value]


def test_half_halves_floats_only(tmp_path: Path) -> None:
    state = {"weight": torch.randn(1000), "count": torch.tensor(7)}
    path = run_folder.save_weights(tmp_path / "w.safetensors", state, {"preset": "compact"}, half=True)
    stored = load_file(path)
    assert stored["weight"].dtype == torch.float16
    assert torch.equal(stored["weight"].float(), state["weight"].half().float())
    assert stored["count"] == 7
    assert path.stat().st_size < 2500
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"preset": "compact"}


def test_what_float16_cannot_hold_stays_float32(tmp_path: Path) -> None:
    limit = torch.finfo(torch.float16).max / 4
    state = {
        "large": torch.tensor([1.0, -limit * 1.01]),
        "largest": torch.tensor([1.0, -limit]),
        "tiny": torch.tensor([1e-6, -2e-7]),
        "zero": torch.zeros(3),
        "norm.running_mean": torch.tensor([1e-7, 1.0]),
        "norm.running_var": torch.tensor([1e-9, 70000.0]),
    }
    stored = load_file(run_folder.save_weights(tmp_path / "w.safetensors", state, {}, half=True))
    assert {key for key, value in stored.items() if value.dtype == torch.float16} == {"largest", "zero"}
    for key, value in state.items():
        torch.testing.assert_close(stored[key].float(), value, rtol=2**-11, atol=0)


@pytest.mark.parametrize("value", [torch.inf, -torch.inf, torch.nan])
@pytest.mark.parametrize("half", [True, False])
def test_weights_that_are_not_finite_are_not_written(tmp_path: Path, value: float, half: bool) -> None:
    path = run_folder.save_weights(tmp_path / "w.safetensors", {"right": torch.ones(2)}, {})
    before = path.read_bytes()
    state = {"right": torch.ones(2), "norm.running_var": torch.tensor([1.0, value, 2.0])}
    with pytest.raises(
        CheckpointError, match=r"^w\.safetensors is not written: norm\.running_var: 1 of 3 values are not"
    ):
        run_folder.save_weights(path, state, {}, half)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
