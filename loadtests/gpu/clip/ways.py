"""Ways to compute one clip on a card: the published form, SAM2's own predictor, and ours, eager, captured, compiled."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from auralsam2 import AuralSAM2
from auralsam2.evaluation.quality import Masks, mean_iou
from auralsam2.model.published import Published
from auralsam2.network.precision import PRECISIONS
from loadtests.cases.case import Case
from loadtests.gpu.clip import sam2_video
from loadtests.gpu.clip.staged import ClipTensors, StagedNetwork, load, sample_clip, stand_in_state
from loadtests.gpu.measuring.capture import Captured
from loadtests.gpu.planning import jobs


@dataclass(frozen=True)
class Form:
    """How a clip is computed."""

    kind: Literal["published", "predictor", "ours"]
    dtype: str = "float32"
    """The published form's under autocast, ours of the network itself."""
    tensor_float32: bool = False
    """Products of float32 on tensor cores, with 10 bits of mantissa."""
    captured: bool = False
    compiled: bool = False


FORMS = {
    jobs.PUBLISHED: Form("published"),
    "published, eager, TF32": Form("published", tensor_float32=True),
    "published, autocast, float16": Form("published", "float16"),
    "published, autocast, bfloat16": Form("published", "bfloat16"),
    jobs.PREDICTOR: Form("predictor", "bfloat16"),
    "ours, eager, float16": Form("ours", "float16"),
    jobs.OURS: Form("ours", "float16", captured=True),
    "ours, one graph, bfloat16": Form("ours", "bfloat16", captured=True),
    "ours, one graph, float32": Form("ours", captured=True),
    jobs.COMPILED: Form("ours", "float16", captured=True, compiled=True),
}


@dataclass(frozen=True)
class Way:
    """One way, ready to be timed."""

    operation: Callable[[], object]
    ready_s: float
    """From the weights in memory to the first answer: building, compiling, capturing."""
    peak_bytes: int | None
    """What it takes of the card beside others, its weights included; None on a CPU."""
    mask_iou: float | None
    """With the published form in float32, all candidates; None where it answers another question."""


@dataclass
class Bench:
    """A case on a device, with what its ways share."""

    case: Case
    device: str
    clock: Callable[[], float] = field(default=time.perf_counter)

    @cached_property
    def clip(self) -> ClipTensors:
        return sample_clip(self.case, self.device)

    @cached_property
    def state(self) -> dict[str, Tensor]:
        return stand_in_state(self.case)

    @cached_property
    def published(self) -> AuralSAM2:
        return load(self.case, self.state, self.device)

    @cached_property
    def truth(self) -> Masks:
        """Masks of all candidates, by the published form in float32."""
        return _masks(self._published(FORMS[jobs.PUBLISHED])())

    def prepare(self, form: Form) -> Way:
        """Build a way and run it once. Raises: what it does, where it cannot run here."""
        truth, shared = self.truth, self.published
        with _peak(self.device) as peak:
            begun = self.clock()
            operation = self._operation(form)
            answer = operation()
            if self.device == "cuda":
                torch.cuda.synchronize()
            ready_s = self.clock() - begun
        iou = None if form.kind == "predictor" else mean_iou(_masks(answer), truth)
        own = num_bytes(shared) if form.kind == "published" else 0
        return Way(operation, ready_s, peak[0] + own if peak else None, iou)

    def _operation(self, form: Form) -> Callable[[], Tensor]:
        if form.kind == "published":
            return self._published(form)
        if form.kind == "predictor":
            predictor = sam2_video.build(self.case, self.published)
            return lambda: sam2_video.track_point(predictor, self.clip.frames)
        network = StagedNetwork(self.case, self.state, self.device, form.dtype)
        if form.compiled:
            network.compile_stages()
        if form.captured:
            with _tensor_float32(form.tensor_float32):
                return Captured(network, self.clip).replay

        def eager() -> Tensor:
            with torch.inference_mode():
                answer: Tensor = network(*self.clip)
            return answer

        return eager

    def _published(self, form: Form) -> Callable[[], Tensor]:
        network = Published(self.published)

        def compute() -> Tensor:
            with (
                _tensor_float32(form.tensor_float32),
                torch.autocast(self.device, PRECISIONS[form.dtype], enabled=form.dtype != "float32"),
            ):
                return network(*self.clip).low_res_logits

        return compute


def num_bytes(model: torch.nn.Module) -> int:
    """Count the bytes of a module's parameters and buffers."""
    return sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))


def _masks(logits: Tensor) -> Masks:
    return np.asarray((logits > 0).cpu().numpy())


@contextmanager
def _tensor_float32(allowed: bool) -> Iterator[None]:
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


@contextmanager
def _peak(device: str) -> Iterator[list[int]]:
    """Fill a list with the most bytes that PyTorch held of the card within, beside what it held before."""
    found: list[int] = []
    if device != "cuda":
        yield found
        return
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved()
    torch.cuda.reset_peak_memory_stats()
    yield found
    found.append(torch.cuda.max_memory_reserved() - before)
