"""Table 8's question on this machine: memory and time of training, by method, for `compact`.

One process and one thread each, in a process of its own, so that its peak is the run's. Steps are those of the recipe
`project`: a step on clips of one frame, then a step on whole clips; the schedule has as many of one as of the other.
"""

import resource
import time
from collections.abc import Sequence
from multiprocessing import get_context

import torch

from auralsam2.training.recipes import settings_for
from auralsam2.training.run.learner import Learner
from auralsam2.training.run.workers import clip_numbers
from auralsam2.training.settings import FULL_STEPS
from auralsam2.training.start.starting import Weights
from loadtests.tables.parts import Part

NUM_STEPS = 5
"""Of each kind; the first is the warm-up."""


def measure(methods: Sequence[str], part: Part) -> None:
    """Train each method for a few steps: its peak of resident memory in bytes, and seconds of a step of each kind."""
    for method in methods:
        if method in part.found:
            continue
        with get_context("spawn").Pool(1) as pool:
            part.keep(method, pool.apply(train_some, (method,)))


def train_some(method: str) -> dict[str, object]:
    """Take steps in this process."""
    torch.set_num_threads(1)
    settings = settings_for("project", method=method, workers=1)
    learner = Learner(settings, Weights())
    seconds: dict[str, list[float]] = {}
    for kind, first in (("one frame", 0), ("whole clips", FULL_STEPS // 2)):
        for number in range(NUM_STEPS):
            learner.step = first + number
            started_s = time.perf_counter()
            numbers = clip_numbers(settings, learner.step, 0)
            learner.accumulate(numbers, 1 / len(numbers))
            learner.update()
            if number:
                seconds.setdefault(kind, []).append(time.perf_counter() - started_s)
    # Kilobytes, on Linux.
    peak_bytes = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    learning = sum(parameter.numel() for parameter in learner.model.parameters() if parameter.requires_grad)
    return {"peak_bytes": peak_bytes, "seconds": seconds, "parameters_that_learn": learning}
