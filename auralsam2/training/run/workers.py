"""Processes that share the clips of a step: each computes its share on one thread, and gradients are averaged.

On a few cores this uses small operators better than threads do.
"""

import os

import torch
import torch.distributed as dist
from torch import Tensor

from auralsam2.training.run.learner import Learner
from auralsam2.training.settings import TrainSettings


def clip_numbers(settings: TrainSettings, step: int, rank: int) -> list[int]:
    """List the clips of one worker in one step. No number comes twice."""
    mine = settings.clips_of(step) // settings.workers
    first = step * settings.clips_per_step * settings.num_frames + rank * mine
    return list(range(first, first + mine))


def join(settings: TrainSettings, rank: int, meeting: str) -> None:
    """Join the others of this run, who meet at the file `meeting`."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.set_num_threads(settings.threads)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=settings.workers)


def share(learner: Learner) -> None:
    """Give every worker the first one's weights; what each computed for itself may differ in the last place."""
    for value in (*learner.model.state_dict().values(), *learner.contrast.state_dict().values()):
        dist.broadcast(value, 0)


def average(learner: Learner, losses: Tensor) -> Tensor:
    """Sum gradients over the workers (each holds its share), average losses.

    Where a worker's losses are not finite, those of all are returned as they are, with no gradient touched.
    """
    # A worker that met NaN holds fewer gradients than the others: compare losses before gradients.
    worst = losses.clone()
    dist.all_reduce(worst)
    if not torch.isfinite(worst).all():
        return worst
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
