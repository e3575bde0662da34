"""A training run: clips in, weights out; killed at any moment, it goes on where the last checkpoint stood.

SAM2 trains in evaluation mode; what the fuser does, the recipe says. See `pretraining_phase` for what comes first,
`learner` for a step, `workers` for processes that share one, `loop` for their sequence, `interruption` for Ctrl-C.
"""

import tempfile
from collections.abc import Callable
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from auralsam2 import checkpoints
from auralsam2.computing import explain_full_memory, open_device
from auralsam2.errors import TrainingError
from auralsam2.training import run_folder
from auralsam2.training.recipes import describe_recipe
from auralsam2.training.run.interruption import TrainingInterrupted, hold_signals, ignore_ctrl_c
from auralsam2.training.run.learner import Learner
from auralsam2.training.run.loop import Progress, take_steps
from auralsam2.training.run.pretraining_phase import is_of_pretraining, pretrain
from auralsam2.training.run.saving import Saver
from auralsam2.training.run.workers import join, share
from auralsam2.training.settings import TrainSettings
from auralsam2.training.start.starting import Weights, pretrains
from auralsam2_client.contract import AURALSAM2

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

CHECKPOINT_EVERY_S = 120.0
PATIENCE_S = 10
"""For other workers that end by themselves."""


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
    on_found: Callable[[str], None] = lambda done: None,
) -> Path:
    """Train, or go on training where the folder's checkpoint stands.

    Args:
        settings: of the run; a checkpoint in the folder must have the same.
        folder: for checkpoint.pt, weights.safetensors, its float16 copy (of adapters without SAM2, which stays) and the
            TensorBoard log; made if missing.
        weights: where to start from.
        stop_at: stop after this step of the schedule, with a checkpoint; None: at its end.
        report: called after every step.
        report_pretraining: called after every step before the first: what is learned, steps done, steps in all, loss.
        checkpoint_every_s: seconds between checkpoints; one more is written at the end of each phase.
        on_found: called where a checkpoint is found, with what it holds, as "step 12 of 2400".
    Returns: the weights, float32, under released names.
    Raises: TrainingError, DataError or CheckpointError. A loss that is not finite names step, clips and checkpoint.
        TrainingInterrupted, a KeyboardInterrupt, when Ctrl-C came: the state is saved, and the step under way dropped.
        NetworkError where the settings' device is not there, or its memory is full.
    """
    weights = weights or Weights()
    # What is missing or wrong is told before the long work, not after.
    device = open_device(settings.device)
    checkpoints.check(weights.checkpoint, weights.sam2_checkpoint, weights.vggish_checkpoint)
    _log_writer()
    folder.mkdir(parents=True, exist_ok=True)
    end = settings.steps if stop_at is None else min(stop_at, settings.steps)
    state = run_folder.load_checkpoint(folder, settings)
    threads = torch.get_num_threads()
    torch.set_num_threads(settings.workers * settings.threads)
    saver = Saver(folder, settings, checkpoint_every_s, on_found)
    try:
        with explain_full_memory(device):
            learner = _learn(settings, weights, state, saver, end, report, report_pretraining)
    finally:
        torch.set_num_threads(threads)
    about = {
        "preset": settings.preset,
        "image_size": str(settings.size),
        "step": str(learner.step),
        **describe_recipe(settings),
        checkpoints.TRAINED_ON: _trained_on(settings, weights),
    }
    state = learner.model.state_dict()
    run_folder.save_weights(folder / run_folder.HALF_WEIGHTS, _to_ship(settings, state), about, half=True)
    return run_folder.save_weights(folder / run_folder.WEIGHTS, state, about)


def _to_ship(settings: TrainSettings, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """What of a network a small copy holds: all, but of adapters on a SAM2 that stayed, theirs and VGGish alone."""
    if settings.method == AURALSAM2 or settings.sam2_learns:
        return state
    return {name: value for name, value in state.items() if name.startswith(checkpoints.FUSER)}


def _trained_on(settings: TrainSettings, weights: Weights) -> str:
    """What the weights know, of those that they started from too."""
    if weights.checkpoint is None:
        return settings.trained_on
    before = checkpoints.trained_on(weights.checkpoint) or f"what {Path(weights.checkpoint).name} was"
    return before if before == settings.trained_on else f"{before}, then {settings.trained_on}"


def _learn(
    settings: TrainSettings,
    weights: Weights,
    state: dict[str, Any] | None,
    saver: Saver,
    end: int,
    report: Callable[[Progress], None],
    report_pretraining: Callable[[str, int, int, float], None],
) -> Learner:
    """Both phases, from the checkpoint's `state` or from the start."""
    learner = Learner(settings, weights)
    if is_of_pretraining(state) or (state is None and pretrains(settings, weights)):
        pretrain(learner, state, saver, report_pretraining)
    elif state is not None:
        learner.restore(state)
        saver.found(_done(learner))
    try:
        _run(learner, weights, saver, end, report)
    except KeyboardInterrupt:
        with hold_signals(again=False):
            learner.drop()
            saver.save(learner.state(), _done(learner))
        raise TrainingInterrupted(saver.path, _done(learner)) from None
    return learner


def _done(learner: Learner) -> str:
    return f"step {learner.step} of {learner.settings.steps}"


def _run(learner: Learner, weights: Weights, saver: Saver, end: int, report: Callable[[Progress], None]) -> None:
    """Lead the other workers, if there are any, to the end."""
    settings = learner.settings
    with tempfile.TemporaryDirectory() as temporary:
        others: list[BaseProcess] = []
        wait_s = 0
        try:
            if settings.workers > 1:
                meeting = str(Path(temporary) / "meeting")
                with ignore_ctrl_c():
                    context = spawn(
                        _follow,
                        args=(settings, weights, saver.folder, end, meeting),
                        nprocs=settings.workers - 1,
                        join=False,
                    )
                others = context.processes
                join(settings, 0, meeting)
                share(learner)
            _lead(learner, saver, end, report)
            wait_s = PATIENCE_S
        except RuntimeError as error:
            # What the first worker hears of another's end is a broken connection.
            if dist.is_initialized() and (code := _exit_code(others)) is not None:
                raise TrainingError(
                    f"a worker is gone (exit code {code}; -9 is often the system's want of memory). Last good"
                    f" checkpoint: {saver.last_good}. The same command goes on."
                ) from error
            raise
        finally:
            if dist.is_initialized():
                dist.destroy_process_group()
            for process in others:
                process.join(wait_s)
                if process.is_alive():
                    process.terminate()
                    process.join()


def _exit_code(processes: list[BaseProcess]) -> int | None:
    """That of a process that ended by itself, which may be about to; None where all go on."""
    wait([process.sentinel for process in processes], PATIENCE_S)
    return next((process.exitcode for process in processes if process.exitcode is not None), None)


def _lead(learner: Learner, saver: Saver, end: int, report: Callable[[Progress], None]) -> None:
    """The first worker: steps, log, checkpoints."""
    settings = learner.settings
    with _log_writer()(str(saver.folder / run_folder.LOG), purge_step=learner.step) as log:
        for name, value in describe_recipe(settings).items():
            log.add_text(name, value, learner.step)

        def after(progress: Progress) -> None:
            for loss, number in progress.losses.items():
                log.add_scalar(f"loss/{loss}", number, progress.step)
            log.add_scalar("learning_rate", progress.rate, progress.step)
            log.add_scalar("gradient_norm", progress.gradient_norm, progress.step)
            log.add_scalar("clips_per_second", settings.clips_of(progress.step - 1) / progress.step_s, progress.step)
            if progress.step == end or saver.due:
                saver.save(learner.state(), _done(learner))
            report(progress)

        take_steps(learner, 0, end, after, lambda: saver.last_good)
