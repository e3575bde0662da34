"""Batch norm of the two-way fusion, trained as it is served: with running statistics, which follow what passes through.

The released fusion multiplies three projections without a softmax, so what it adds grows with the cube of what it
reads. Normalised by nothing it explodes within some hundred steps and drowns the sound; normalised by the statistics of
one clip, as batch norm trains, it differs from what is served, and of a single token there are no statistics. So each
step normalises by running statistics, and then moves them towards those of all its clips, on all workers.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from auralsam2.network.aural_fuser import AuralFuser

MOMENTUM = 0.1


class RunningStatistics:
    """Watches the fusion's batch norms of one process; `update` once a step, in every worker."""

    def __init__(self, fuser: AuralFuser) -> None:
        self._norms = [module for module in fuser.fusion_modules.modules() if isinstance(module, _BatchNorm)]
        self._sums = [torch.zeros(3, norm.num_features, device=norm.weight.device) for norm in self._norms]
        for norm, sums in zip(self._norms, self._sums, strict=True):
            norm.register_forward_pre_hook(_adder(sums))

    @torch.no_grad()
    def update(self) -> None:
        """Move mean and variance towards what passed since the last call; nothing where nothing passed."""
        flat = torch.stack([sums.flatten() for sums in self._sums]) if self._sums else torch.zeros(0)
        if dist.is_initialized():
            dist.all_reduce(flat)
        for norm, sums, found in zip(self._norms, self._sums, flat, strict=True):
            sums.zero_()
            total, squares, count = found.view(3, -1)
            if count[0] < 2:
                continue
            assert norm.running_mean is not None
            assert norm.running_var is not None
            mean = total / count
            norm.running_mean.lerp_(mean, MOMENTUM)
            norm.running_var.lerp_((squares / count - mean**2).clamp(min=0), MOMENTUM)

    def discard(self) -> None:
        """Forget what passed since the last update."""
        for sums in self._sums:
            sums.zero_()


def _adder(sums: Tensor) -> Any:
    def add(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if torch.is_grad_enabled():
            x = inputs[0].detach().float().transpose(0, 1).flatten(1)
            counts = torch.full((len(x),), float(x.shape[1]), device=x.device)
            sums.add_(torch.stack([x.sum(1), (x * x).sum(1), counts]))

    return add
