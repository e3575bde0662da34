"""Training itself: the loss falls, a killed run goes on to the same weights, and faults stop it with what helps.

The runs here are as long as a few minutes of two cores allow; what training reaches is measured on the shipped weights.
"""

import math
import multiprocessing
import os
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from auralsam2 import AuralSAM2
from auralsam2.errors import CheckpointError, TrainingError
from auralsam2.model.parity_weights import parity_state
from auralsam2.training import run_folder
from auralsam2.training.examples.clips import Example, procedural
from auralsam2.training.recipes import values_of
from auralsam2.training.run import learner
from auralsam2.training.run.interruption import TrainingInterrupted
from auralsam2.training.run.learner import LOSSES, Learner
from auralsam2.training.run.loop import Progress
from auralsam2.training.run.trainer import train
from auralsam2.training.settings import TrainSettings
from auralsam2.training.start import starting
from auralsam2.training.start.starting import Weights
from tests.auralsam2.training.run.delivered import deliver

STEPS = 40
# Two workers, 224 px, two frames: small, but all that a real run does.
SETTINGS = TrainSettings(
    image_size=224,
    num_frames=2,
    steps=STEPS,
    clips_per_step=2,
    warmup_steps=10,
    workers=2,
    pretraining_image_steps=2,
    pretraining_sound_steps=2,
    learning_rate=6e-4,
)
TINY = replace(SETTINGS, steps=3, clips_per_step=1, workers=1, pretraining_image_steps=0, pretraining_sound_steps=0)
RELEASED = replace(TINY, recipe="released", **values_of("released"))
SHORT = replace(SETTINGS, steps=4, pretraining_image_steps=0, pretraining_sound_steps=0)
KILL_AT = 2

RUN = """
import sys
from pathlib import Path
from auralsam2.training.start import starting
from auralsam2.training.settings import TrainSettings
from auralsam2.training.run.trainer import train
if __name__ == "__main__":
    starting.NUM_CLIPS = 2
    train(TrainSettings(**eval(sys.argv[2])), Path(sys.argv[1]), report=lambda p: print(p.step, flush=True),
          checkpoint_every_s=0)
"""


@pytest.fixture(autouse=True)
def _two_clips_to_start_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sounds that VGGish is initialised on: its part in a start, many seconds, is the same whichever they are. The run
    of this module, which is to learn, has all of them.
    """
    monkeypatch.setattr(starting, "NUM_CLIPS", 2)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Progress]]:
    """An uninterrupted run."""
    folder = tmp_path_factory.mktemp("run")
    steps: list[Progress] = []
    with torch.enable_grad():
        train(SETTINGS, folder, report=steps.append)
    return folder, steps


def test_the_loss_falls(run: tuple[Path, list[Progress]]) -> None:
    losses = [progress.losses for progress in run[1]]
    assert len(losses) == STEPS
    first, last = losses[: STEPS // 4], losses[-STEPS // 4 :]
    for name in ("total", "focal", "audio_contrast"):
        means = [np.mean([loss[name] for loss in part]) for part in (first, last)]
        assert means[1] < 0.8 * means[0], name


def test_a_killed_run_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    train(SHORT, whole)
    script = tmp_path / "run.py"
    script.write_text(RUN)
    folder = tmp_path / "killed"
    command = [sys.executable, str(script), str(folder), repr(asdict(SHORT))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip().isdigit() and int(line) >= KILL_AT and (folder / run_folder.CHECKPOINT).exists():
                break
        os.killpg(process.pid, signal.SIGKILL)
    assert not (folder / run_folder.WEIGHTS).exists(), "it was killed before its end"
    resumed: list[int] = []
    train(SHORT, folder, report=lambda progress: resumed.append(progress.step))
    assert 1 < resumed[0] <= SHORT.steps
    assert resumed == list(range(resumed[0], SHORT.steps + 1))
    wanted, found = (load_file(f / run_folder.WEIGHTS) for f in (whole, folder))
    assert set(wanted) == set(found)
    for name, value in wanted.items():
        assert torch.equal(value, found[name]), name


def test_the_weights_are_a_checkpoint_like_any_other(run: tuple[Path, list[Progress]]) -> None:
    from auralsam2 import checkpoints

    model = AuralSAM2.from_preset("compact", 224)
    model.load_released(checkpoints.read(str(run[0] / run_folder.WEIGHTS)))
    with pytest.raises(CheckpointError, match="Is it a checkpoint of another preset"):
        AuralSAM2.from_preset("hiera_tiny", 224).load_released(checkpoints.read(str(run[0] / run_folder.WEIGHTS)))


def test_tensorboard_shows_every_loss_of_every_step(run: tuple[Path, list[Progress]]) -> None:
    log = EventAccumulator(str(run[0] / run_folder.LOG))
    log.Reload()
    tags = log.Tags()["scalars"]
    assert {f"loss/{name}" for name in LOSSES} | {"learning_rate", "gradient_norm"} <= set(tags)
    values = log.Scalars("loss/total")
    assert [value.step for value in values] == list(range(1, STEPS + 1))
    assert values[3].value == pytest.approx(run[1][3].losses["total"], rel=1e-5)


@pytest.mark.parametrize("settings", [TINY, RELEASED], ids=["project", "released"])
def test_stopping_on_the_way_and_going_on_changes_nothing(tmp_path: Path, settings: TrainSettings) -> None:
    for folder, stops in (("straight", [None]), ("in_parts", [1, 2, None])):
        for stop_at in stops:
            train(settings, tmp_path / folder, stop_at=stop_at)
    wanted, found = (load_file(tmp_path / f / run_folder.WEIGHTS) for f in ("straight", "in_parts"))
    assert all(torch.equal(value, found[name]) for name, value in wanted.items())


def test_weights_and_log_say_which_recipe_made_them(tmp_path: Path) -> None:
    path = train(replace(RELEASED, learning_rate=3e-4), tmp_path, stop_at=1)
    for file in (path, tmp_path / run_folder.HALF_WEIGHTS):
        with safe_open(file, "pt") as stored:
            about = stored.metadata()
        assert about["recipe"] == "released"
        assert about["recipe_changes"] == "learning_rate 0.0003"
    log = EventAccumulator(str(tmp_path / run_folder.LOG))
    log.Reload()
    (text,) = log.Tensors("recipe/text_summary")
    assert text.tensor_proto.string_val[0] == b"released"


def test_two_workers_of_a_released_run_save_at_ctrl_c_what_one_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signal, "raise_signal", deliver)
    together = replace(RELEASED, clips_per_step=2, steps=2)
    wanted = load_file(train(together, tmp_path / "one", stop_at=1))

    def interrupt(progress: Progress) -> None:
        deliver(signal.SIGINT)

    shared = replace(together, workers=2)
    # Processes of tests may ignore Ctrl-C; a person's does not.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(TrainingInterrupted, match="step 1 of 2"):
            train(shared, tmp_path / "two", report=interrupt)
    finally:
        signal.signal(signal.SIGINT, before)
    assert not multiprocessing.active_children(), "the other worker ends with the first"
    state = run_folder.load_checkpoint(tmp_path / "two", shared)
    assert state is not None
    found = state["model"]
    assert any(not torch.equal(value, found[name]) for name, value in wanted.items() if "running_mean" in name)
    for name, value in wanted.items():
        if "running_" not in name and "num_batches" not in name:
            # Adam's first step is the sign of the gradient, which sums in another order may turn where it is nothing.
            assert (value - found[name]).abs().mean() < 1e-6, name


def test_a_loss_that_is_not_finite_stops_with_step_clips_and_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = procedural(0, 224)

    def poisoned(number: int, num_frames: int) -> Example:
        example = good(number, num_frames)
        if number == 4:  # the third step's clip, since each of two frames has a number
            example = replace(example, windows=np.full_like(example.windows, math.nan))
        return example

    monkeypatch.setattr(learner, "source_of", lambda settings: poisoned)
    with pytest.raises(TrainingError) as caught:
        train(TINY, tmp_path, checkpoint_every_s=0)
    message = str(caught.value)
    assert "not finite in step 2 (clips 4 to 4 of seed 0)" in message
    assert f"Last good checkpoint: {tmp_path / run_folder.CHECKPOINT} (step 2 of 3)" in message
    assert "--learning-rate" in message
    state = run_folder.load_checkpoint(tmp_path, TINY)
    assert state is not None
    assert state["step"] == 2
    assert all(torch.isfinite(value).all() for value in state["model"].values())


def test_two_workers_stop_together(tmp_path: Path) -> None:
    """Where one of them waited for the other, this test would not end."""
    with pytest.raises(TrainingError, match=r"not finite in step 0 .*none yet"):
        train(replace(SETTINGS, steps=2), tmp_path, _poisoned_start(tmp_path))


def test_a_worker_that_is_gone_is_told_with_the_last_good_checkpoint(tmp_path: Path) -> None:
    def kill(progress: Progress) -> None:
        for process in multiprocessing.active_children():
            process.kill()

    with pytest.raises(
        TrainingError, match=r"a worker is gone \(exit code -9.*checkpoint\.pt \(step 1 of 4\)\. The same"
    ):
        train(SHORT, tmp_path, report=kill, checkpoint_every_s=0)
    assert not multiprocessing.active_children()


def _poisoned_start(folder: Path) -> Weights:
    """Weights that may be loaded, and of which one is so large that what is computed with it is not finite."""
    state = parity_state(AuralSAM2.from_preset("compact", 224), 51)
    state["v_model.no_mem_embed"].fill_(torch.finfo(torch.float32).max)
    path = folder / "poisoned.pth"
    torch.save(state, path)
    return Weights(checkpoint=str(path))


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    train(TINY, tmp_path, stop_at=1)
    with pytest.raises(TrainingError, match=r"belongs to another run: seed 0, now 7\. Resume with its settings"):
        train(replace(TINY, seed=7), tmp_path)
    with pytest.raises(TrainingError, match=r"belongs to another run: preset 'compact', now 'hiera_tiny'"):
        train(replace(TINY, preset="hiera_tiny"), tmp_path)


def test_without_tensorboard_it_says_so_before_anything_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(TrainingError, match="needs the package 'tensorboard'"):
        train(TINY, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    (tmp_path / run_folder.CHECKPOINT).write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(TrainingError, match=r"checkpoint\.pt: not a readable training checkpoint .*Remove it"):
        train(TINY, tmp_path)


def moved_by_a_step(settings: TrainSettings, checkpoint: Path) -> set[str]:
    """What one step changes of the network."""
    learning = Learner(settings, Weights(checkpoint=str(checkpoint)))
    before = {name: value.clone() for name, value in learning.model.state_dict().items()}
    learning.accumulate([0], 1.0)
    learning.update()
    return {name for name, value in learning.model.state_dict().items() if not torch.equal(value, before[name])}


def test_of_a_hiera_preset_only_the_fuser_learns(tmp_path: Path) -> None:
    settings = replace(TINY, preset="hiera_tiny", num_frames=1)
    model = AuralSAM2.from_preset("hiera_tiny", 224)
    path = tmp_path / "whole.pth"
    torch.save(parity_state(model, 51), path)
    moved = moved_by_a_step(settings, path)
    assert any(name.startswith("aural_fuser.f_blocks") for name in moved)
    assert any(name.startswith("aural_fuser.fusion_modules") for name in moved)
    assert not any(name.startswith(("v_model.", "aural_fuser.vgg.", "aural_fuser.train_proj")) for name in moved)
    assert {name for name in moved if "running_" in name} == {
        name for name in moved if name.endswith((".running_mean", ".running_var")) and ".fusion_modules." in name
    }


def test_released_the_fuser_and_its_heads_learn_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "whole.pth"
    torch.save(parity_state(AuralSAM2.from_preset("compact", 224), 51), path)
    moved = moved_by_a_step(RELEASED, path)
    for part in ("f_blocks", "a_blocks", "fusion_modules", "patch_embeds", "train_proj_v1", "train_proj_a1"):
        assert any(name.startswith(f"aural_fuser.{part}") for name in moved), part
    assert not any(name.startswith(("v_model.", "aural_fuser.vgg.")) for name in moved)
    by_project = moved_by_a_step(TINY, path)
    assert any(name.startswith("aural_fuser.vgg.") for name in by_project), "of compact all learns"
    assert any(name.startswith("v_model.image_encoder.") for name in by_project)
