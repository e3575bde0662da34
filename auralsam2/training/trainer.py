"""The training loop: clips in, weights out; killed at any moment, it goes on where the last checkpoint stood.

Nothing random is carried from step to step: clips, augmentation and samples are functions of the seed and the clip's
number, so a resumed run computes what an uninterrupted one would have. The network trains in evaluation mode, so that
what is trained is what is served; see `running_statistics` for its batch norms.

With several workers each process computes its share of a step's clips on one thread, and gradients are averaged: on a
few cores this uses small operators better than threads do.
"""

import math
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn

from auralsam2 import checkpoints
from auralsam2.errors import TrainingError
from auralsam2.image_encoder import normalise
from auralsam2.log_mel import LogMel
from auralsam2.training import run_folder
from auralsam2.training.examples import Example, Source, augment, procedural, without_sound
from auralsam2.training.losses import segmentation_loss
from auralsam2.training.running_statistics import RunningStatistics
from auralsam2.training.settings import TrainSettings
from auralsam2.training.starting import Weights, pretrained, starting_point

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

LOSSES = ("total", "focal", "dice", "iou", "occlusion", "audio_contrast")
CHECKPOINT_EVERY_S = 120.0


@dataclass(frozen=True)
class Progress:
    """What a step reports."""

    step: int
    """Steps done, of all sessions together."""
    steps: int
    rate: float
    gradient_norm: float
    losses: dict[str, float]
    """Means over the step's clips, by the names of LOSSES."""
    step_s: float


def source_of(settings: TrainSettings) -> Source:
    """The clips that the settings ask for, with their sound."""
    if settings.data is not None:
        from auralsam2.training.folder_source import folder_source

        return folder_source(Path(settings.data), settings.subset, settings.size, settings.seed)
    return procedural(settings.seed, settings.size, settings.multi_share)


class Learner:
    """Network, heads and optimiser of one process, and what one step does to them."""

    def __init__(self, settings: TrainSettings, weights: Weights, source: Source | None = None) -> None:
        self.settings = settings
        self.log_mel = LogMel()
        heard = source or source_of(settings)
        # A network that is to train on silence starts from the same weights as one that hears.
        self.model, self.contrast = starting_point(settings, weights, heard, self.log_mel)
        self.source = heard if settings.audio else without_sound(heard)
        self.statistics = RunningStatistics(self.model.aural_fuser)
        encoders = [*self.model.v_model.image_encoder.parameters(), *self.model.aural_fuser.vgg.parameters()]
        pretrained_ones = {id(p) for p in encoders}
        learning = [*self.model.parameters(), *self.contrast.parameters()]
        self.parameters = [p for p in learning if p.requires_grad]
        slow = [p for p in self.parameters if id(p) in pretrained_ones]
        fast = [p for p in self.parameters if id(p) not in pretrained_ones]
        self.optimiser = torch.optim.AdamW(
            [{"params": fast, "share": 1.0}, {"params": slow, "share": settings.encoder_rate_share}],
            lr=settings.learning_rate,
            betas=(0.9, 0.999),
            weight_decay=settings.weight_decay,
        )
        self.step = 0

    def state(self) -> dict[str, Any]:
        """All that a resumed run needs."""
        return {
            "step": self.step,
            "model": self.model.state_dict(),
            "contrast": self.contrast.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state`. Raises CheckpointError when its shapes are another preset's."""
        checkpoints.load_strictly(self.model, state["model"], "the training checkpoint")
        self.contrast.load_state_dict(state["contrast"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = int(state["step"])

    def clip_losses(self, example: Example, number: int) -> dict[str, Tensor]:
        """The losses of one augmented clip, by the names of LOSSES."""
        frames = normalise(torch.from_numpy(example.frames))
        masks = torch.from_numpy(example.masks).float()
        with torch.no_grad():
            log_mel = self.log_mel(torch.from_numpy(example.windows))
        output, aural = self.model.forward_with_features(frames, log_mel)
        parts = segmentation_loss(output, masks)
        total = parts.total
        contrast = total.new_zeros(())
        if self.settings.audio_contrast:
            generator = torch.Generator().manual_seed(number)
            contrast = self.contrast(aural, output.select("iou"), masks, generator)
            # The paper adds AudioCon to losses summed over a whole clip's frames; ours are means over them.
            total = total + contrast / self.settings.num_frames
        return {"total": total, **parts._asdict(), "audio_contrast": contrast}

    def accumulate(self, numbers: list[int], share: float) -> Tensor:
        """Add the gradients of clips to those at hand, each times `share`; the mean losses, [len(LOSSES)]."""
        num_frames = 1 if self.settings.is_short(self.step) else self.settings.num_frames
        sums = torch.zeros(len(LOSSES))
        for number in numbers:
            rng = np.random.default_rng([self.settings.seed, 11, number])
            example = self.source(number, num_frames)
            losses = self.clip_losses(augment(example, rng), number)
            if not torch.isfinite(losses["total"]):
                return torch.full((len(LOSSES),), math.nan)
            (losses["total"] * share).backward()
            sums += torch.stack([losses[name].detach() for name in LOSSES])
        return sums / len(numbers)

    def update(self) -> float:
        """One optimiser step with the gradients at hand; their norm before clipping."""
        norm = nn.utils.clip_grad_norm_(self.parameters, self.settings.max_gradient_norm)
        for group in self.optimiser.param_groups:
            group["lr"] = self.settings.rate(self.step) * group["share"]
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.statistics.update()
        self.step += 1
        return float(norm)


def _numbers(settings: TrainSettings, step: int, rank: int) -> list[int]:
    """The clips of one worker in one step. No number comes twice."""
    mine = settings.clips_of(step) // settings.workers
    first = step * settings.clips_per_step * settings.num_frames + rank * mine
    return list(range(first, first + mine))


def _average(learner: Learner, losses: Tensor) -> Tensor:
    """Sum gradients over the workers (each holds its share), average losses."""
    # A clip without sounding pixels gives the contrast heads no gradient: one worker may hold what another lacks.
    present = torch.tensor([p.grad is not None for p in learner.parameters], dtype=torch.uint8)
    dist.all_reduce(present, op=dist.ReduceOp.MAX)
    held = [p for p, here in zip(learner.parameters, present.tolist(), strict=True) if here]
    flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in held])
    dist.all_reduce(flat)
    for parameter, part in zip(held, flat.split([p.numel() for p in held]), strict=True):
        parameter.grad = part.view_as(parameter)
    dist.all_reduce(losses)
    return losses / learner.settings.workers


def _steps(
    learner: Learner, rank: int, stop_at: int, after: Callable[[Progress], None], last_good: Callable[[], str]
) -> None:
    settings = learner.settings
    while learner.step < stop_at:
        started = time.monotonic()
        step = learner.step
        losses = learner.accumulate(_numbers(settings, step, rank), 1 / settings.clips_of(step))
        if settings.workers > 1:
            # A worker that met NaN holds fewer gradients than the others: compare losses before gradients.
            worst = losses.clone()
            dist.all_reduce(worst)
            losses = _average(learner, losses) if torch.isfinite(worst).all() else worst
        if not torch.isfinite(losses).all():
            first = _numbers(settings, step, 0)[0]
            raise TrainingError(
                f"the loss is not finite in step {step} (clips {first} to {first + settings.clips_of(step) - 1} of seed"
                f" {settings.seed}). Last good checkpoint: {last_good()}. Start again with a lower --learning-rate."
            )
        norm = learner.update()
        values = dict(zip(LOSSES, losses.tolist(), strict=True))
        after(Progress(learner.step, settings.steps, settings.rate(step), norm, values, time.monotonic() - started))


def _join(settings: TrainSettings, rank: int, meeting: str) -> None:
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.set_num_threads(settings.threads)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=settings.workers)


def _share(learner: Learner) -> None:
    """Give every worker the first one's weights; what each computed for itself may differ in the last place."""
    for value in (*learner.model.state_dict().values(), *learner.contrast.state_dict().values()):
        dist.broadcast(value, 0)


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
    _join(settings, index + 1, meeting)
    learner = Learner(settings, weights)
    state = run_folder.load_checkpoint(folder, settings)
    if state is not None:
        learner.restore(state)
    else:
        pretrained(learner.model, settings, weights, folder, _unheard)
    _share(learner)
    try:
        _steps(learner, index + 1, stop_at, lambda progress: None, lambda: "")
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
    _log_writer()  # what is missing is told before the long work, not after
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
            pretrained(learner.model, settings, weights, folder, report_pretraining)
        _run(learner, weights, folder, end, report, checkpoint_every_s)
    finally:
        torch.set_num_threads(threads)
    about = {"preset": settings.preset, "image_size": str(settings.size), "step": str(learner.step)}
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
            _join(settings, 0, meeting)
            _share(learner)
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

        def after(progress: Progress) -> None:
            nonlocal saved_s, saved_step
            for name, value in progress.losses.items():
                log.add_scalar(f"loss/{name}", value, progress.step)
            log.add_scalar("learning_rate", progress.rate, progress.step)
            log.add_scalar("gradient_norm", progress.gradient_norm, progress.step)
            log.add_scalar("clips_per_second", settings.clips_of(progress.step - 1) / progress.step_s, progress.step)
            if progress.step == end or time.monotonic() - saved_s > checkpoint_every_s:
                run_folder.save_checkpoint(folder, settings, learner.state())
                saved_s, saved_step = time.monotonic(), progress.step
            report(progress)

        _steps(learner, 0, end, after, last_good)
