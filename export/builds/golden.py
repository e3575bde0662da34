"""The golden clip of a build: what a served answer is held against, and how far from it an answer may be.

`golden.npz` holds the clip and its answer by sound under the names of the contract. REQUESTS is what is asked beside
it, as JSON; NAME/OUTPUT and NAME/TOLERANCE_OUTPUT are the answers of its rounds, PATH/MASK the mask of a round.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from auralsam2.network.readout import NO_OBJECT_LOGIT
from export.builds.golden_requests import GoldenRequest
from export.gates.stage_gate import GateResult

GOLDEN_SHARE_OF_SPREAD = 0.02
# Of their own size, where values hardly differ: a clip of one frame has one object score, whose spread is nothing.
LEAST_SPREAD = 0.1
GOLDEN_SHARE_OF_MEASURED = 10


def write_golden(
    path: Path, clip: dict[str, npt.NDArray[Any]], result: GateResult, requests: Sequence[GoldenRequest] = ()
) -> None:
    """Write a clip, the network's answer to it, and the tolerance of each of its outputs; the same of `requests`."""
    arrays = {**clip, **result.network, **_tolerances("", result.network, result.graphs)}
    for pair in result.prompted:
        arrays |= {f"{pair.name}/{name}": value for name, value in pair.network.items()}
        arrays |= _tolerances(f"{pair.name}/", pair.network, pair.graphs)
    if result.prompted:
        asked = [_record(request) for request in requests]
        arrays |= {f"{each.path}/MASK": r.mask for each in requests for r in each.rounds if r.mask is not None}
        arrays["REQUESTS"] = np.array(json.dumps(asked))
    np.savez_compressed(path, allow_pickle=False, **arrays)


def golden_tolerance(wanted: npt.NDArray[Any], found: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Decide how far an output of the served golden answer may be from the network's, max abs.

    Ten times what was measured here, since another CPU adds in another order; at least a fiftieth of the spread.

    Args:
        wanted: of the network; `found`: of the graphs.
    """
    # Where only one of the two reads a frame as empty, the difference is a thousand and would forgive everything.
    masks = (wanted > NO_OBJECT_LOGIT) & (found > NO_OBJECT_LOGIT)
    floor = GOLDEN_SHARE_OF_SPREAD * (_spread(wanted[masks]) or 1.0)
    measured = float(np.abs(found - wanted)[masks].max()) if masks.any() else 0.0
    return np.asarray(max(floor, GOLDEN_SHARE_OF_MEASURED * measured), np.float32)


def _tolerances(
    prefix: str, wanted: dict[str, npt.NDArray[Any]], found: dict[str, npt.NDArray[Any]]
) -> dict[str, npt.NDArray[Any]]:
    return {f"{prefix}TOLERANCE_{name}": golden_tolerance(wanted[name], found[name]) for name in wanted}


def _record(request: GoldenRequest) -> dict[str, Any]:
    rounds = [
        {
            "answer": asked.answer,
            "mode": asked.mode,
            "points": asked.points,
            "box": asked.box,
            "mask": asked.mask is not None,
            "frame": asked.frame,
            "propagate": asked.propagate,
            "text": asked.text,
        }
        for asked in request.rounds
    ]
    return {"path": request.path, "use_audio": request.use_audio, "session": request.in_session, "rounds": rounds}


def _spread(values: npt.NDArray[Any]) -> float:
    """Tell by how much values differ, of what they are at the least; 0 where there are none, or nothing but zeros."""
    if not values.size:
        return 0.0
    return max(float(values.std()), LEAST_SPREAD * float(np.sqrt(np.mean(np.square(values, dtype=np.float64)))))
