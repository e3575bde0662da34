"""What one process of a run holds, and what one step does to it.

Nothing random is carried from step to step: clips, augmentation, samples and dropout are functions of the seed and the
clip's number, so a resumed run computes what an uninterrupted one would have.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from auralsam2 import checkpoints
from auralsam2.computing import open_device, rounding
from auralsam2.model.sounding_sam2 import ClipOutput
from auralsam2.network.aural_fuser import AuralFeatures, AuralFuser
from auralsam2.network.image_encoder import normalise
from auralsam2.network.log_mel import LogMel
from auralsam2.training.examples.augmentation import Augmentation, augment
from auralsam2.training.examples.clips import Example, Source, procedural, without_sound
from auralsam2.training.losses.segmentation import segmentation_loss
from auralsam2.training.run.fuser_mode import set_mode
from auralsam2.training.run.parameters import parameter_groups
from auralsam2.training.run.running_statistics import RunningStatistics
from auralsam2.training.settings import TrainSettings
from auralsam2.training.start.starting import Weights, starting_point

LOSSES = ("total", "focal", "dice", "iou", "occlusion", "audio_contrast")


def source_of(settings: TrainSettings) -> Source:
    """Open the clips that the settings ask for, with their sound."""
    if settings.data is not None:
        from auralsam2.training.examples.folder_source import folder_source

        return folder_source(Path(settings.data), settings.subset, settings.size, settings.seed, settings.resampler)
    return procedural(settings.seed, settings.size, settings.multi_share)


class Learner:
    """Network, heads and optimiser of one process, and what one step does to them."""

    def __init__(self, settings: TrainSettings, weights: Weights, source: Source | None = None) -> None:
        self.settings = settings
        self.device = open_device(settings.device)
        self.log_mel = LogMel()
        heard = source or source_of(settings)
        # A network that is to train on silence starts from the same weights as one that hears.
        self.model, self.contrast = starting_point(settings, weights, heard, self.log_mel)
        for part in (self.model, self.contrast, self.log_mel):
            part.to(self.device)
        self.source = heard if settings.audio else without_sound(heard)
        self.augmentation = Augmentation(
            settings.jitter, settings.greyscale_share, settings.max_rotation_degrees, settings.max_shear_degrees
        )
        fuser = self.model.aural_fuser
        follows = settings.batch_norm == "running"
        self.statistics = RunningStatistics(fuser) if follows and isinstance(fuser, AuralFuser) else None
        self.parameters = [p for part in (self.model, self.contrast) for p in part.parameters() if p.requires_grad]
        self.optimiser = torch.optim.AdamW(
            parameter_groups(self.model, self.contrast, settings),
            lr=settings.learning_rate,
            betas=(0.9, 0.999),
            weight_decay=settings.weight_decay,
        )
        self.step = 0
        self._counted: list[tuple[Tensor, Tensor]] = []
        """Running statistics that clips of an unfinished step move, and what they were before it."""

    def state(self) -> dict[str, Any]:
        """Collect all that a resumed run needs."""
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
        """Compute the losses of one augmented clip, by the names of LOSSES."""
        settings = self.settings
        frames = normalise(torch.from_numpy(example.frames).to(self.device))
        masks = torch.from_numpy(example.masks).to(self.device).float()
        labelled = None if example.labelled is None else torch.from_numpy(example.labelled).to(self.device)
        with torch.no_grad():
            log_mel = self.log_mel(torch.from_numpy(example.windows).to(self.device))
        first = settings.conditioning_frame(len(frames))
        with self._dropout_of(number), rounding(self.device, settings.forward_precision):
            output, aural = self.model.forward_with_features(frames, log_mel, conditioning_frame=first)
        output, aural = _widened(output, aural)
        judged = (output, masks) if labelled is None else (_rows(output, labelled), masks[labelled])
        parts = segmentation_loss(*judged, settings.iou_error, settings.frame_losses)
        total = parts.total
        contrast = total.new_zeros(())
        if settings.contrasts:
            generator = torch.Generator().manual_seed(number)
            contrast = self.contrast(aural, output.select("iou"), masks, generator, labelled)
            # AudioCon is made to be added to losses summed over a whole clip's frames.
            weight = settings.num_frames if settings.frame_losses == "mean" else 1
            total = total + contrast / weight
        return {"total": total, **parts._asdict(), "audio_contrast": contrast}

    @contextmanager
    def _dropout_of(self, number: int) -> Iterator[None]:
        """What dropout draws for a clip: the same whenever, and in whichever process, it is computed."""
        if not self.settings.dropout:
            yield
            return
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            seed = np.random.SeedSequence([self.settings.seed, 17, number]).generate_state(1)[0]
            torch.manual_seed(int(seed))
            yield

    def accumulate(self, numbers: list[int], share: float) -> Tensor:
        """Add the gradients of clips to those at hand, each times `share`; the mean losses, [len(LOSSES)]."""
        settings = self.settings
        num_frames = 1 if settings.is_short(self.step) else settings.num_frames
        # Here and not when made: the pretraining in between runs in evaluation mode.
        set_mode(self.model.aural_fuser, settings.dropout, settings.batch_norm)
        self._note_statistics()
        sums = torch.zeros(len(LOSSES), device=self.device)
        for number in numbers:
            rng = np.random.default_rng([settings.seed, 11, number])
            example = self.source(number, num_frames)
            losses = self.clip_losses(augment(example, rng, self.augmentation), number)
            if not torch.isfinite(losses["total"]):
                return torch.full((len(LOSSES),), math.nan)
            (losses["total"] * share).backward()
            sums += torch.stack([losses[name].detach() for name in LOSSES])
        return (sums / len(numbers)).cpu()

    def _note_statistics(self) -> None:
        by_clip = self.settings.batch_norm == "clip"
        norms = [module for module in self.model.aural_fuser.modules() if isinstance(module, _BatchNorm)]
        moved = [value for norm in norms for value in norm.buffers()] if by_clip else []
        self._counted = [(value, value.clone()) for value in moved]

    def drop(self) -> None:
        """Undo what clips of an unfinished step did, so that `state` is that after the last whole one."""
        self.optimiser.zero_grad()
        if self.statistics is not None:
            self.statistics.discard()
        for value, before in self._counted:
            value.copy_(before)
        self._counted = []

    def update(self) -> float:
        """Take one optimiser step with the gradients at hand; return their norm before clipping."""
        limit = self.settings.max_gradient_norm
        if limit is None:
            norm = nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])
        else:
            norm = nn.utils.clip_grad_norm_(self.parameters, limit)
        for group in self.optimiser.param_groups:
            group["lr"] = self.settings.rate(self.step) * group["share"]
        self.optimiser.step()
        self.optimiser.zero_grad()
        if self.statistics is not None:
            self.statistics.update()
        self._counted = []
        self.step += 1
        return float(norm)


def _widened(output: ClipOutput, aural: AuralFeatures) -> tuple[ClipOutput, AuralFeatures]:
    """Both in float32: losses are, whatever the network rounded to."""
    wide = ClipOutput(
        output.low_res_logits.float(), output.iou.float(), output.object_score.float(), output.object_pointer.float()
    )
    visual, audio = (tuple(part.float() for part in parts) for parts in aural)
    return wide, AuralFeatures(visual, audio)  # type: ignore[arg-type]  # three of each, as before


def _rows(output: ClipOutput, labelled: Tensor) -> ClipOutput:
    """Of what the network says, the frames with a label."""
    return ClipOutput(
        output.low_res_logits[labelled],
        output.iou[labelled],
        output.object_score[labelled],
        output.object_pointer[labelled],
    )
