"""The first calls of the stages on a card, one after the other: each compiles, and says how far it is."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from auralsam2.stages.clip_stages import Stage

from .device.captured import torch_dtype
from .device.progress import COMPILING, Progress


def compile_parts(
    stages: Sequence[Stage], modules: Sequence[nn.Module], device: torch.device, report: Callable[[str], None]
) -> None:
    """Call each part once by itself, on what the part before it gives: a first call compiles."""
    progress = Progress(COMPILING, report)
    known: dict[str, Tensor] = {}
    for stage, module in zip(stages, modules, strict=True):
        for spec in stage.inputs:
            if spec.name not in known:
                known[spec.name] = torch.zeros(spec.shape, dtype=torch_dtype(spec), device=device)
        with progress.part(stage.name), torch.no_grad():
            answer = module(*(known[spec.name] for spec in stage.inputs))
            torch.cuda.synchronize(device)
        known |= zip((spec.name for spec in stage.outputs), answer, strict=True)
