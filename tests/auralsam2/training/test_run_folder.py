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


def test_a_file_of_something_else_is_named(tmp_path: Path) -> None:
    torch.save({"weights": torch.zeros(2)}, tmp_path / run_folder.CHECKPOINT)
    with pytest.raises(TrainingError, match="not a readable training checkpoint"):
        run_folder.load_checkpoint(tmp_path, TrainSettings())


@pytest.mark.parametrize(
    ("value", "half", "message"),
    [
        (torch.nan, False, r"b: 1 of 2 values are not finite \(1 NaN\)\. Training has diverged"),
        (torch.inf, True, r"b: 1 of 2 values are not finite \(1 Inf\)\. Training has diverged"),
        (65504.0, False, None),
        (65504.0, True, None),
        (65520.0, False, None),
        (65520.0, True, r"b: 1 of 2 values are not finite \(1 Inf\)\. float16 ends at 65504: store them in float32"),
    ],
)
def test_what_is_not_finite_once_stored_is_not_written(
    tmp_path: Path, value: float, half: bool, message: str | None
) -> None:
    path = run_folder.save_weights(tmp_path / "w.safetensors", {"a": torch.ones(2)}, {})
    before = path.read_bytes()
    state = {"a": torch.ones(2), "b": torch.tensor([1.0, value])}
    if message is None:
        run_folder.save_weights(path, state, {}, half)
        assert load_file(path)["b"].isfinite().all()
        return
    with pytest.raises(CheckpointError, match=rf"^w\.safetensors is not written: {message}"):
        run_folder.save_weights(path, state, {}, half)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


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
