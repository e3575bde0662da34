"""The gate: a graph enters the repository only after its outputs, from the file on disk, were compared with PyTorch's.

Budgets. Each stage but the last is judged by relative RMS error of every output. The decoder is judged by what leaves
the service, the masks: its recurrence can enlarge a rounding error without bound on single logits, so there the share
of pixels on which both agree counts, beside a wide bound on the logits.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from auralsam2.stages.clip_stages import Stage
from export.errors import ParityError
from model_repository.stage_runtime.engine import Array

# Relative RMS error: float32 graphs differ by the order of their sums; bfloat16 has 8 bits of mantissa (2^-9 = 2e-3 a
# rounding), and some tens of layers add theirs; float16 has 11 (2^-12 = 2.4e-4), an eighth of that. int8 has 255 steps
# over the whole range of a tensor, so single outputs may err widely; there the masks decide.
RELATIVE_RMS = {"float32": 1e-4, "float16": 7e-3, "bfloat16": 5e-2, "int8": 2e-1}
DECODER_RELATIVE_RMS = {"float32": 5e-3, "float16": 7e-2, "bfloat16": 5e-1, "int8": 5e-1}
MASK_AGREEMENT = {"float32": 0.999, "float16": 0.99, "bfloat16": 0.97, "int8": 0.97}


@dataclass(frozen=True)
class OutputParity:
    """How far one output of a graph is from the network's."""

    stage: str
    output: str
    max_abs: float
    relative_rms: float
    mask_agreement: float | None = None
    """Share of pixels on the same side of 0; masks only."""

    def as_record(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if value is not None}


def compare(stage: str, output: str, found: Array, wanted: Array) -> OutputParity:
    """Measure one output. Raises ParityError for another shape or a value that is not finite, on either side."""
    if found.shape != wanted.shape or not (np.isfinite(found).all() and np.isfinite(wanted).all()):
        raise ParityError(
            f"{stage}: {output} is {list(found.shape)}, finite {bool(np.isfinite(found).all())}; PyTorch gives"
            f" {list(wanted.shape)}, finite {bool(np.isfinite(wanted).all())}. Shapes must agree and all be finite."
        )
    error = found.astype(np.float64) - wanted
    rms = float(np.sqrt((error**2).mean()) / max(np.sqrt((wanted.astype(np.float64) ** 2).mean()), 1e-12))
    agreement = float(((found > 0) == (wanted > 0)).mean()) if output.endswith("LOGITS") else None
    return OutputParity(stage, output, float(np.abs(error).max()), rms, agreement)


def check(parity: OutputParity, precision: str, last_stage: bool, compared: str = "graph vs PyTorch") -> None:
    """Raise ParityError where a budget is exceeded: stage, output, what was measured, the budget and the way out."""
    budget = (DECODER_RELATIVE_RMS if last_stage else RELATIVE_RMS)[precision]
    kept_out = "It was not put into the repository."
    if precision != "float32":
        kept_out += " A wider type may pass: --precision float32."
    if parity.relative_rms > budget:
        raise ParityError(
            f"{parity.stage} {compared}: {parity.output} relative RMS {parity.relative_rms:.1e}, budget"
            f" {budget:.0e} ({precision}); max abs {parity.max_abs:.1e}. {kept_out}"
        )
    if parity.mask_agreement is not None and parity.mask_agreement < MASK_AGREEMENT[precision]:
        raise ParityError(
            f"{parity.stage} {compared}: {parity.output} agrees on {parity.mask_agreement:.4%} of the pixels,"
            f" at least {MASK_AGREEMENT[precision]:.1%} asked for ({precision}). {kept_out}"
        )


def run_network(stage: Stage, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Run a clip through the stage's module, in PyTorch: what `run_clip` is held against."""
    with torch.no_grad():
        outputs = stage.module(*(inputs[spec.name] for spec in stage.inputs))
    return {spec.name: value for spec, value in zip(stage.outputs, outputs, strict=True)}
