"""The golden clip of a build: what a served answer is held against, and how far from it an answer may be."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from auralsam2.network.readout import NO_OBJECT_LOGIT
from export.gates.stage_gate import GateResult

GOLDEN_SHARE_OF_SPREAD = 0.02
# Of their own size, where values hardly differ: a clip of one frame has one object score, whose spread is nothing.
LEAST_SPREAD = 0.1
GOLDEN_SHARE_OF_MEASURED = 10


def write_golden(path: Path, clip: dict[str, npt.NDArray[Any]], result: GateResult) -> None:
    """Write a clip, the network's answer to it, and the tolerance of each of its outputs."""
    tolerances = {f"TOLERANCE_{name}": golden_tolerance(result, name) for name in result.network}
    np.savez_compressed(path, allow_pickle=False, **clip, **result.network, **tolerances)


def golden_tolerance(result: GateResult, name: str) -> npt.NDArray[np.float32]:
    """Decide how far an output of the served golden answer may be from the network's, max abs.

    Ten times what was measured here, since another CPU adds in another order; at least a fiftieth of the spread.
    """
    wanted, found = result.network[name], result.graphs[name]
    # Where only one of the two reads a frame as empty, the difference is a thousand and would forgive everything.
    masks = (wanted > NO_OBJECT_LOGIT) & (found > NO_OBJECT_LOGIT)
    floor = GOLDEN_SHARE_OF_SPREAD * (_spread(wanted[masks]) or 1.0)
    measured = float(np.abs(found - wanted)[masks].max()) if masks.any() else 0.0
    return np.asarray(max(floor, GOLDEN_SHARE_OF_MEASURED * measured), np.float32)


def _spread(values: npt.NDArray[Any]) -> float:
    """Tell by how much values differ, of what they are at the least; 0 where there are none, or nothing but zeros."""
    if not values.size:
        return 0.0
    return max(float(values.std()), LEAST_SPREAD * float(np.sqrt(np.mean(np.square(values, dtype=np.float64)))))
