"""The network on a card: in half precision, as one graph, against float32; and that a replay does no more than that."""

from functools import partial

import numpy as np
import torch

from auralsam2.evaluation.quality import mean_iou
from loadtests.cases.case import Case
from loadtests.gpu.checks.check import Check, LeftOutError, Place
from loadtests.gpu.clip.staged import StagedNetwork, sample_clip, stand_in_state
from loadtests.gpu.clip.ways import FORMS, Bench
from loadtests.gpu.measuring.capture import Captured
from loadtests.gpu.planning import jobs
from loadtests.gpu.report.tables import IOU_EXPECTED

SERVED, SMALL = Case("hiera_base_plus", 1024, 5), Case("hiera_tiny", 256, 3)
GRAPHS = (jobs.OURS, "ours, one graph, bfloat16", "ours, one graph, float32")


def network_checks(served: Case = SERVED, small: Case = SMALL) -> list[Check]:
    """List the checks of the network.

    Args:
        served: the case whose masks are compared; small: the one whose replays are looked at.
    """
    bench: dict[str, Bench] = {}
    return [
        *(Check(f"{row}: masks of {served.name}", "network", partial(_agrees, bench, served, row)) for row in GRAPHS),
        Check("a replay reads the clip that was loaded", "network", partial(_reads_what_is_loaded, small)),
        Check("replays give the same bits and allocate nothing", "network", partial(_only_replays, small)),
    ]


def _agrees(kept: dict[str, Bench], case: Case, row: str, place: Place) -> None:
    # What is published is built once for the rows of one case.
    bench = kept.setdefault(place.device, Bench(case, place.device))
    found = bench.prepare(FORMS[row]).mask_iou
    assert found is not None
    assert found >= IOU_EXPECTED, f"masks agree with eager float32 by {found:.4f}; at least {IOU_EXPECTED} is expected"


def _network(case: Case, place: Place) -> StagedNetwork:
    dtype = "float16" if place.device == "cuda" else "float32"
    return StagedNetwork(case, stand_in_state(case), place.device, dtype)


def _reads_what_is_loaded(case: Case, place: Place) -> None:
    network = _network(case, place)
    first, other = (sample_clip(case, place.device, seed) for seed in (0, 1))
    graph = Captured(network, first)
    before = graph.replay().clone()
    graph.load(*other)
    masks = _masks(graph.replay())
    with torch.inference_mode():
        eager = _masks(network(*other))
    agreement = mean_iou(masks, eager)
    assert agreement >= IOU_EXPECTED, f"the replay of another clip agrees with eager by {agreement:.4f}"
    assert not np.array_equal(masks, _masks(before)), "the replay answers for the clip before"


def _only_replays(case: Case, place: Place) -> None:
    if place.device != "cuda":
        raise LeftOutError("a CPU has no graphs")
    graph = Captured(_network(case, place), sample_clip(case, place.device))
    first = graph.replay().clone()
    torch.cuda.synchronize()
    counted = "allocation.all.allocated"
    before = torch.cuda.memory_stats()[counted]
    for _ in range(20):
        graph.replay()
    torch.cuda.synchronize()
    made = torch.cuda.memory_stats()[counted] - before
    assert made == 0, f"20 replays allocated {made} times"
    assert torch.equal(first, graph.answer), "replays of one clip differ"


def _masks(logits: torch.Tensor) -> "np.ndarray[tuple[int, ...], np.dtype[np.bool_]]":
    return np.asarray((logits > 0).cpu().numpy())
