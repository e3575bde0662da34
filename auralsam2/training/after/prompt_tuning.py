"""Teach a trained network SAM2's own prompts: `python -m auralsam2.training.after.prompt_tuning --out runs/prompts`.

The decoder and the prompt encoder learn; image encoder, fuser, memory and pointers stay as they are, so that features
are computed once. In every step the decoder also repeats, on sound, what it said before, so that sound keeps its
quality; `auralsam2 evaluate` before and after tells. Killed at any moment, the same command goes on.
Half of the prompts are corrected: the click that a person would set next, with the logits of the round before.
"""

import argparse
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from auralsam2.checkpoints import load_torch
from auralsam2.evaluation.clicks import corrective_click
from auralsam2.model.aural_sam2 import AuralSAM2
from auralsam2.model.loading import load_network
from auralsam2.network import mask_decoder
from auralsam2.network.mask_decoder import FrameMasks
from auralsam2.prompted.prompted_masks import PromptedMasks, decode_prompted
from auralsam2.prompted.prompts import ABSENT, NUM_SLOTS, PREVIOUS_LIMIT, mask_embedding, pad_points, sparse_tokens
from auralsam2.training.after.prompt_examples import Drawn, Features, cache, draw_prompt
from auralsam2.training.losses.segmentation import (
    DICE_WEIGHT,
    FOCAL_WEIGHT,
    IOU_WEIGHT,
    OCCLUSION_WEIGHT,
    dice_loss,
    focal_loss,
    intersection_over_union,
)
from auralsam2.training.run.interruption import TrainingInterrupted, hold_signals
from auralsam2.training.run_folder import HALF_WEIGHTS, save_weights
from auralsam2_client.new_file import new_file

CHECKPOINT = "prompts.pt"
CHECKPOINT_EVERY_S = 60.0
CORRECTED_SHARE, MAX_CORRECTIONS = 0.5, 2
PROMPT_BATCH, SOUND_BATCH = 12, 6
CANDIDATES_WEIGHT, SOUND_WEIGHT, SOUND_OTHER_WEIGHT = 0.5, 100.0, 10.0
WARM_UP = 50


@dataclass(frozen=True)
class Settings:
    """One run. The same settings and folder: the same run, continued."""

    clips: int = 240
    steps: int = 4200
    checkpoint: str | None = None
    """The trained network that is to learn prompts; None: the shipped one."""
    learning_rate: float = 1e-3
    seed: int = 0


class Tuner:
    """Network, optimiser and what one step does to them."""

    def __init__(self, model: AuralSAM2, features: list[Features], settings: Settings) -> None:
        self.model, self.features, self.settings = model, features, settings
        sam = model.v_model.requires_grad_(False)
        decoder, encoder = sam.sam_mask_decoder, sam.sam_prompt_encoder
        learning = [*decoder.parameters(), *encoder.parameters()]
        # What sound reads beside the decoder, or features were made with.
        still = {
            id(p) for module in (decoder.conv_s0, decoder.conv_s1, encoder.no_mask_embed) for p in module.parameters()
        }
        self.parameters = [p.requires_grad_(True) for p in learning if id(p) not in still]
        fresh = {id(p) for p in sam.sam_prompt_encoder.parameters()}
        self.optimiser = torch.optim.AdamW(
            [
                {"params": [p for p in self.parameters if id(p) not in fresh], "share": 1.0},
                {"params": [p for p in self.parameters if id(p) in fresh], "share": 4.0},
            ],
            lr=settings.learning_rate,
            weight_decay=0.01,
        )
        self.step = 0

    def state(self) -> dict[str, Any]:
        """Collect all that a resumed run needs."""
        sam = self.model.v_model.state_dict()
        return {"step": self.step, "sam": sam, "optimiser": self.optimiser.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        self.model.v_model.load_state_dict(state["sam"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = int(state["step"])

    def advance(self) -> dict[str, float]:
        """Take one step. Everything drawn is a function of seed and step."""
        rng = np.random.default_rng([self.settings.seed, 11, self.step])
        done = self.step / self.settings.steps
        rate = self.settings.learning_rate * min(1, (self.step + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * done))
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["share"]
        losses = self._prompt_losses(rng) | self._sound_losses(rng)
        total = torch.stack(list(losses.values())).sum()
        self.optimiser.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        with hold_signals():
            self.optimiser.step()
            self.step += 1
        return {name: float(value.detach()) for name, value in losses.items()}

    def _prompt_losses(self, rng: np.random.Generator) -> dict[str, Tensor]:
        frames, asked = list[Features](), list[Drawn]()
        while len(frames) < PROMPT_BATCH:
            frame = self.features[int(rng.integers(len(self.features)))]
            drawn = draw_prompt(frame.owners, rng)
            if drawn is not None:
                frames.append(frame)
                asked.append(drawn)
        batch = _Batch(self.model, frames)
        previous = torch.zeros(PROMPT_BATCH, *frames[0].logits.shape[1:])
        corrected = rng.uniform(size=PROMPT_BATCH) < CORRECTED_SHARE
        for _ in range(int(rng.integers(1, MAX_CORRECTIONS + 1))):
            if corrected.any():
                self._correct(frames, asked, previous, np.flatnonzero(corrected))
        return prompt_losses(batch.decode(asked, previous), asked)

    def _correct(self, frames: list[Features], asked: list[Drawn], previous: Tensor, those: NDArray[np.intp]) -> None:
        """Add to `those` prompts the click that the network's answer to them asks for, and the answer's logits."""
        own = [asked[i] for i in those]
        with torch.no_grad():
            answers = _Batch(self.model, [frames[i] for i in those]).decode(own, previous[those])
            chosen = _chosen(answers, own)
            masks = F.interpolate(chosen[:, None], scale_factor=4.0, mode="bilinear")[:, 0] > 0
        for i, drawn, logits, mask in zip(those, own, chosen, masks, strict=True):
            click = corrective_click(mask.numpy(), drawn.truth)
            if click is not None:
                previous[i] = logits.clamp(-PREVIOUS_LIMIT, PREVIOUS_LIMIT)
                coords = np.concatenate([drawn.coords, [[click.x, click.y]]]).astype(np.float32)
                asked[i] = Drawn(drawn.truth, coords, np.append(drawn.labels, click.label))

    def _sound_losses(self, rng: np.random.Generator) -> dict[str, Tensor]:
        """How far the decoder is, on sound, from what it said before."""
        sam = self.model.v_model
        positions = mask_decoder.dense_positions(sam)
        distances, others = [], []
        for index in rng.integers(len(self.features), size=SOUND_BATCH):
            frame = self.features[int(index)]
            said: FrameMasks = mask_decoder.decode(
                sam,
                frame.conditioned.float(),
                (frame.high_res_s4[None].float(), frame.high_res_s8[None].float()),
                list(frame.visual.float()),
                [a[None] for a in frame.audio.float()],
                positions,
            )
            before = frame.logits.float()
            # By the masks: far from the threshold a logit says no more.
            distances.append(F.mse_loss(said.low_res_logits[0].clamp(-8, 8).sigmoid(), before.clamp(-8, 8).sigmoid()))
            others.append(0.002 * F.mse_loss(said.low_res_logits[0], before))
            others.append(F.mse_loss(said.iou[0], frame.iou) + 0.01 * F.mse_loss(said.object_score[0], frame.score))
        return {
            "sound": SOUND_WEIGHT * torch.stack(distances).mean(),
            "sound_other": SOUND_OTHER_WEIGHT * torch.stack(others).mean(),
        }


class _Batch:
    """Frames to be decoded with prompts, as often as one likes."""

    def __init__(self, model: AuralSAM2, frames: list[Features]) -> None:
        self.sam = model.v_model
        self.high_res = (
            torch.stack([f.high_res_s4 for f in frames]).float(),
            torch.stack([f.high_res_s8 for f in frames]).float(),
        )
        embedding = torch.stack([f.embedding for f in frames]).float()
        self.tokens = embedding.flatten(2).transpose(1, 2) + self.sam.no_mem_embed[0]

    def decode(self, asked: list[Drawn], previous: Tensor) -> PromptedMasks:
        """`previous` [B, S/4, S/4], all zero where there is none."""
        sam = self.sam
        slots = [pad_points(torch.from_numpy(d.coords), torch.from_numpy(d.labels), NUM_SLOTS) for d in asked]
        coords, labels = (torch.stack(parts) for parts in zip(*slots, strict=True))
        used = int((labels != ABSENT).sum(1).max())
        sparse, absent = sparse_tokens(sam, coords[:, :used], labels[:, :used])
        given = (previous != 0).flatten(1).any(1)
        dense = torch.where(
            given[:, None, None], mask_embedding(sam, previous[:, None]), sam.sam_prompt_encoder.no_mask_embed.weight
        )
        return decode_prompted(
            sam, self.tokens, self.high_res, sparse, absent, dense, mask_decoder.dense_positions(sam)
        )


def _chosen(masks: PromptedMasks, asked: list[Drawn]) -> Tensor:
    """[B, S/4, S/4]: mask 0 of more than one point, else the best candidate."""
    best = 1 + masks.iou[:, 1:].argmax(1)
    many = torch.tensor([len(d.labels) > 1 for d in asked])
    return masks.low_res_logits[torch.arange(len(asked)), torch.where(many, 0, best)]


def prompt_losses(masks: PromptedMasks, asked: list[Drawn]) -> dict[str, Tensor]:
    """Compute the paper's four losses, of mask 0 and of the best of the three candidates."""
    truth = torch.stack([torch.from_numpy(d.truth) for d in asked]).float()
    # At half the frame's size: a quarter of the arithmetic, and thin arms are still seen.
    target = F.avg_pool2d(truth[:, None], 2).round().flatten(2)
    logits = F.interpolate(masks.low_res_logits, size=truth.shape[1] // 2, mode="bilinear").flatten(2)
    wide = target.expand_as(logits)
    each = FOCAL_WEIGHT * focal_loss(logits, wide) + DICE_WEIGHT * dice_loss(logits, wide)  # [B, 4]
    with torch.no_grad():
        overlap = intersection_over_union(logits, target)
    return {
        "mask": each[:, 0].mean(),
        "candidates": CANDIDATES_WEIGHT * each[:, 1:].amin(1).mean(),
        "iou": IOU_WEIGHT * F.mse_loss(masks.iou, overlap),
        "occlusion": OCCLUSION_WEIGHT
        * F.binary_cross_entropy_with_logits(masks.object_score, torch.ones_like(masks.object_score)),
    }


def tune(out: Path, settings: Settings, report: Callable[[str], None], stop_after_s: float = math.inf) -> Path | None:
    """Run to the end, or until the time is up; then the weights' file, or None.

    Args:
        out: checkpoint and weights are written here; a run that was stopped goes on.
    Raises: TrainingInterrupted when Ctrl-C came: the last whole step is saved.
    """
    out.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    model, _ = load_network("compact", checkpoint=settings.checkpoint)
    tuner = Tuner(model, cache(model, settings.clips, settings.seed, report), settings)
    if (out / CHECKPOINT).is_file():
        tuner.restore(load_torch(out / CHECKPOINT))
        report(f"goes on    step {tuner.step}")
    try:
        if not _take_steps(tuner, out, report, started, stop_after_s):
            return None
    except KeyboardInterrupt:
        _save(tuner, out, again=False)
        raise TrainingInterrupted(out / CHECKPOINT, f"step {tuner.step} of {settings.steps}") from None
    return save_weights(out / HALF_WEIGHTS, model.state_dict(), _about(model, settings), half=True)


def _take_steps(tuner: Tuner, out: Path, report: Callable[[str], None], started: float, stop_after_s: float) -> bool:
    """Whether the end was reached in time; either way what was learned is saved."""
    settings, saved = tuner.settings, time.monotonic()
    sums: dict[str, float] = {}
    while tuner.step < settings.steps:
        for name, value in tuner.advance().items():
            sums[name] = sums.get(name, 0.0) + value / 50
        if tuner.step % 50 == 0:
            text = "  ".join(f"{name} {value:.4f}" for name, value in sums.items())
            report(f"step {tuner.step:5}  {time.monotonic() - started:5.0f} s  {text}")
            sums = {}
        out_of_time = time.monotonic() - started > stop_after_s
        if out_of_time or time.monotonic() - saved > CHECKPOINT_EVERY_S:
            _save(tuner, out)
            saved = time.monotonic()
        if out_of_time:
            return False
    _save(tuner, out)
    return True


def _save(tuner: Tuner, out: Path, again: bool = True) -> None:
    with hold_signals(again), new_file(out / CHECKPOINT) as partial:
        torch.save(tuner.state(), partial)


def _about(model: AuralSAM2, settings: Settings) -> dict[str, str]:
    return {"preset": model.preset.name, "image_size": str(model.image_size), "prompt_steps": str(settings.steps)}


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m auralsam2.training.after.prompt_tuning", description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--checkpoint", help="weights of `compact` to start from; default: those that are shipped")
    parser.add_argument("--clips", type=int, default=Settings.clips, help="clips learnt from; default: %(default)s")
    parser.add_argument("--steps", type=int, default=Settings.steps, help="optimiser steps; default: %(default)s")
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch; default: %(default)s")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    settings = Settings(given.clips, given.steps, given.checkpoint)
    try:
        print(f"weights    {tune(given.out, settings, lambda line: print(line, flush=True))}")
    except TrainingInterrupted as halt:
        print(f"interrupted; {halt.done} is saved in {halt.checkpoint}. The same command goes on.", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
