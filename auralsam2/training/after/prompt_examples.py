"""What prompt tuning reads: frames as the frozen parts of a network see them, and prompts drawn for them.

A prompt is drawn for one to three things of a frame: a click, clicks, a box, or a box with clicks.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from auralsam2.data import world
from auralsam2.evaluation.clicks import MIN_PIXELS, box_of, corrective_click, points_in
from auralsam2.model.aural_sam2 import AuralSAM2
from auralsam2.network import memory
from auralsam2.network.image_encoder import normalise
from auralsam2.network.log_mel import LogMel
from auralsam2_client.media.sound_windows import clip_windows

MAX_THINGS = 3
SINGLE_SHARE = 0.3
"""Share of prompts that are one click on one thing."""
BOX_JITTER_PX = 1.5


class Features(NamedTuple):
    """What the frozen parts make of one frame, float16."""

    embedding: Tensor
    high_res_s4: Tensor
    high_res_s8: Tensor
    conditioned: Tensor
    """[N, C]: image tokens as the decoder gets them, memory read."""
    visual: Tensor
    """[3, N, C]."""
    audio: Tensor
    """[3, C]."""
    logits: Tensor
    """[3, S/4, S/4]: what the network said before it learned prompts."""
    iou: Tensor
    score: Tensor
    owners: NDArray[np.int8]
    """[S, S]: the thing seen at each pixel."""


def perceive(log_mel: LogMel, index: int, seed: int, size: int) -> tuple[Tensor, Tensor, NDArray[np.int8]]:
    """Make training clip `index`, two of three of split "multi", as the network reads it.

    Returns: frames [T, 3, S, S], log-mel examples [T, 2, 96, 64], and the thing seen at each pixel, [T, S, S].
    """
    scene = world.draw_scene("single" if index % 3 == 2 else "multi", "train", seed, index)
    painter = world.Painter(scene, size)
    pictures, owners = zip(*(painter.draw(second + 0.5) for second in range(scene.num_frames)), strict=True)
    frames = normalise(torch.from_numpy(np.stack(pictures)))
    return frames, log_mel(torch.from_numpy(clip_windows(world.play(scene), scene.num_frames))), np.stack(owners)


def clip_features(model: AuralSAM2, log_mel: LogMel, index: int, seed: int) -> list[Features]:
    """Compute the frames of training clip `index`: two of three clips of split "multi"."""
    frames, heard, owners = perceive(log_mel, index, seed, model.image_size)
    conditioned: list[Tensor] = []
    out, aural = model.forward_with_features(frames, heard)
    image = model.image_features(frames)
    sam, positions = model.v_model, model.positions()
    bank: dict[int, memory.Remembered] = {}
    for t in range(len(owners)):
        own = image.embedding[t].flatten(1).T
        reading = memory.gather(sam, bank, t, (0,), positions) if t else None
        conditioned.append(memory.attend(sam, own, reading, positions) if reading else own + sam.no_mem_embed[0])
        chosen = out.low_res_logits[t, out.iou[t].argmax()]
        features = memory.remember(sam, image.embedding[t : t + 1], chosen[None, None])
        bank[t] = memory.Remembered(features, out.object_pointer[t : t + 1])
    return [
        Features(
            image.embedding[t].half(),
            image.high_res_s4[t].half(),
            image.high_res_s8[t].half(),
            conditioned[t].half(),
            torch.stack([v[t].flatten(1).T for v in aural.visual]).half(),
            torch.stack([a[t] for a in aural.audio]).half(),
            out.low_res_logits[t].half(),
            out.iou[t],
            out.object_score[t],
            owners[t],
        )
        for t in range(len(owners))
    ]


class Drawn(NamedTuple):
    """What is asked of one frame."""

    truth: NDArray[np.bool_]
    coords: NDArray[np.float32]
    labels: NDArray[np.int64]
    things: tuple[int, ...] = ()
    """What is asked for, as `owners` name it."""


def draw_prompt(owners: NDArray[np.int8], rng: np.random.Generator) -> Drawn | None:
    """Draw a prompt for one to three things of a frame; None where nothing is seen."""
    seen = [n for n in range(int(owners.max()) + 1) if (owners == n).sum() >= MIN_PIXELS]
    if not seen:
        return None
    single = rng.uniform() < SINGLE_SHARE
    count = 1 if single else int(rng.integers(1, min(MAX_THINGS, len(seen)) + 1))
    asked = rng.permutation(seen)[:count]
    things = tuple(int(thing) for thing in asked)
    truth = np.isin(owners, asked)
    if single:
        # Where SAM2's own evaluation sets the first click, or anywhere inside.
        click = corrective_click(np.zeros_like(truth), truth) if rng.uniform() < 0.5 else None
        coords = points_in(truth, 1, rng) if click is None else np.array([[click.x, click.y]], np.float32)
        return Drawn(truth, coords, np.ones(1, np.int64), things)
    kind = rng.choice(("box", "points", "both"), p=(0.2, 0.35, 0.45))
    coords, labels = np.empty((0, 2), np.float32), np.empty(0, np.int64)
    if kind != "points":
        x0, y0, x1, y1 = np.asarray(box_of(truth)) + rng.normal(0, BOX_JITTER_PX, 4)
        coords, labels = np.array([[x0, y0], [x1, y1]], np.float32), np.array([2, 3])
    if kind != "box":
        inside = [points_in(owners == n, 1, rng) for n in asked] if rng.uniform() < 0.5 else []
        inside.append(points_in(truth, int(rng.integers(1, 5)), rng))
        positive = np.concatenate(inside)
        outside = points_in(~truth, int(rng.integers(0, 3)), rng)
        coords = np.concatenate([coords, positive, outside])
        labels = np.concatenate([labels, np.ones(len(positive), np.int64), np.zeros(len(outside), np.int64)])
    return Drawn(truth, coords, labels, things)


def cache(model: AuralSAM2, clips: int, seed: int, report: Callable[[str], None]) -> list[Features]:
    """Compute the features of training clips 0 to `clips` - 1, about 3 MB each."""
    log_mel, found = LogMel(), list[Features]()
    started = time.monotonic()
    with torch.no_grad():
        for index in range(clips):
            found += clip_features(model, log_mel, index, seed)
            if index % 50 == 49:
                report(f"features   {index + 1} clips, {time.monotonic() - started:.0f} s")
    return found
