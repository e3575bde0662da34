"""A training run: clips in, weights out; killed at any moment, it goes on where the last checkpoint stood.

SAM2 trains in evaluation mode; what the fuser does, the recipe says. See `learner` for a step, `workers` for processes
that share one, `loop` for their sequence.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from auralsam2 import checkpoints
from auralsam2.errors import TrainingError
from auralsam2.training import run_folder
from auralsam2.training.recipes import describe_recipe
from auralsam2.training.run.learner import Learner
from auralsam2.training.run.loop import Progress, take_steps
from auralsam2.training.run.workers import join, share
from auralsam2.training.settings import TrainSettings
from auralsam2.training.start.starting import Weights, pretrain_or_load

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

CHECKPOINT_EVERY_S = 120.0


def _log_writer() -> "type[SummaryWriter]":
    """TensorBoard's writer. Raises TrainingError where it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ModuleNotFoundError as error:
        raise TrainingError("the log needs the package 'tensorboard'; install it with: make setup") from error
    return SummaryWriter


def _unheard(what: str, step: int, steps: int, loss: float) -> None:
    """A report that nobody reads."""


def _follow(index: int, settings: TrainSettings, weights: Weights, folder: Path, stop_at: int, meeting: str) -> None:
    """A worker beside the first: same steps, no files."""
    join(settings, index + 1, meeting)
    learner = Learner(settings, weights)
    state = run_folder.load_checkpoint(folder, settings)
    if state is not None:
        learner.restore(state)
    else:
        pretrain_or_load(learner.model, settings, weights, folder, _unheard)
    share(learner)
    try:
        take_steps(learner, index + 1, stop_at, lambda progress: None, lambda: "")
    except TrainingError:
        return  # the first worker says it
    finally:
        dist.destroy_process_group()


def train(
    settings: TrainSettings,
    folder: Path,
    weights: Weights | None = None,
    stop_at: int | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
    report_pretraining: Callable[[str, int, int, float], None] = _unheard,
    checkpoint_every_s: float = CHECKPOINT_EVERY_S,
) -> Path:
    """Train, or go on training where the folder's checkpoint stands.

    Args:
        settings: of the run; a checkpoint in the folder must have the same.
        folder: for checkpoint.pt, weights.safetensors, its float16 copy and the TensorBoard log; made if missing.
        weights: where to start from.
        stop_at: stop after this step of the schedule, with a checkpoint; None: at its end.
        report: called after every step.
        report_pretraining: called after every step before the first: what is learned, steps done, steps in all, loss.
        checkpoint_every_s: seconds between checkpoints; one more is written at the end.
    Returns: the weights, float32, under released names.
    Raises: TrainingError, DataError or CheckpointError. A loss that is not finite names step, clips and checkpoint.
    """
    weights = weights or Weights()
    # What is missing or wrong is told before the long work, not after.
    checkpoints.check(weights.checkpoint, weights.sam2_checkpoint, weights.vggish_checkpoint)
    _log_writer()
    folder.mkdir(parents=True, exist_ok=True)
    end = settings.steps if stop_at is None else min(stop_at, settings.steps)
    state = run_folder.load_checkpoint(folder, settings)
    threads = torch.get_num_threads()
    torch.set_num_threads(settings.workers * settings.threads)
    try:
        learner = Learner(settings, weights)
        if state is not None:
            learner.restore(state)
        else:
            pretrain_or_load(learner.model, settings, weights, folder, report_pretraining)
        _run(learner, weights, folder, end, report, checkpoint_every_s)
    finally:
        torch.set_num_threads(threads)
    about = {
        "preset": settings.preset,
        "image_size": str(settings.size),
        "step": str(learner.step),
        **describe_recipe(settings),
    }
    run_folder.save_weights(folder / run_folder.HALF_WEIGHTS, learner.model.state_dict(), about, half=True)
    return run_folder.save_weights(folder / run_folder.WEIGHTS, learner.model.state_dict(), about)


def _run(
    learner: Learner,
    weights: Weights,
    folder: Path,
    end: int,
    report: Callable[[Progress], None],
    checkpoint_every_s: float,
) -> None:
    """Lead the other workers, if there are any, to the end."""
    settings = learner.settings
    with tempfile.TemporaryDirectory() as temporary:
        context = None
        if settings.workers > 1:
            meeting = str(Path(temporary) / "meeting")
            context = spawn(
                _follow,
                args=(settings, weights, folder, end, meeting),
                nprocs=settings.workers - 1,
                join=False,
            )
            join(settings, 0, meeting)
            share(learner)
        try:
            _lead(learner, folder, end, report, checkpoint_every_s)
        finally:
            if context is not None:
                dist.destroy_process_group()
                for process in context.processes:
                    process.join(10)
                    if process.is_alive():
                        process.terminate()


def _lead(
    learner: Learner, folder: Path, end: int, report: Callable[[Progress], None], checkpoint_every_s: float
) -> None:
    """The first worker: steps, log, checkpoints."""
    settings = learner.settings
    saved_s = time.monotonic()
    saved_step = learner.step if (folder / run_folder.CHECKPOINT).exists() else None

    def last_good() -> str:
        if saved_step is None:
            return "none yet"
        return f"{folder / run_folder.CHECKPOINT} (step {saved_step})"

    with _log_writer()(str(folder / run_folder.LOG), purge_step=learner.step) as log:
        for name, value in describe_recipe(settings).items():
            log.add_text(name, value, learner.step)

        def after(progress: Progress) -> None:
            nonlocal saved_s, saved_step
            for loss, number in progress.losses.items():
                log.add_scalar(f"loss/{loss}", number, progress.step)
            log.add_scalar("learning_rate", progress.rate, progress.step)
            log.add_scalar("gradient_norm", progress.gradient_norm, progress.step)
            log.add_scalar("clips_per_second", settings.clips_of(progress.step - 1) / progress.step_s, progress.step)
            if progress.step == end or time.monotonic() - saved_s > checkpoint_every_s:
                run_folder.save_checkpoint(folder, settings, learner.state())
                saved_s, saved_step = time.monotonic(), progress.step
            report(progress)

        take_steps(learner, 0, end, after, last_good)
