"""Our network from a clip's bytes to its masks: the four stages that the service runs on a card, in this process."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from auralsam2 import AuralSAM2
from auralsam2.model.parity_weights import parity_state
from auralsam2.network.precision import PRECISIONS, to_precision
from auralsam2.stages.clip_stages import build_stages
from export.gates.sample_clip import sample_audio, sample_frames
from loadtests.cases.case import Case

SEED = 51
"""Of the stand-in weights. What a clip costs does not depend on them; their masks mean nothing, but can be compared."""
StageCall = tuple[Callable[..., Any], tuple[Tensor, ...]]
"""A stage as a function of tensors, and what it reads of a clip."""


class ClipTensors(NamedTuple):
    """A clip on the device."""

    frames: Tensor
    """[T, S, S, 3] uint8."""
    audio: Tensor
    """[T, 15600, 2] float32."""


def sample_clip(case: Case, device: str, seed: int = 0) -> ClipTensors:
    """Draw a clip of the procedural world."""
    frames = torch.from_numpy(sample_frames(case.num_frames, case.image_size, seed))
    audio = torch.from_numpy(sample_audio(case.num_frames, seed))
    return ClipTensors(frames.to(device), audio.to(device))


def stand_in_state(case: Case) -> dict[str, Tensor]:
    """Draw the stand-in weights of a case, float32, on the CPU."""
    return parity_state(AuralSAM2.from_preset(case.preset, case.image_size), SEED)


def load(case: Case, state: dict[str, Tensor], device: str) -> AuralSAM2:
    """Build a network with the weights `state` on the device, as it is published, float32."""
    model = AuralSAM2.from_preset(case.preset, case.image_size)
    model.load_released(state)
    # Gradients stay asked for: autocast keeps narrow copies of such weights alone, as in others' scripts.
    return model.to(device)


class StagedNetwork(nn.Module):
    """The stages that the service runs on a card, one after the other, each of which can be captured by itself."""

    def __init__(self, case: Case, state: dict[str, Tensor], device: str, dtype: str) -> None:
        """Build them with the weights `state`. dtype: float32 | float16 | bfloat16. Raises: NetworkError."""
        super().__init__()
        model = load(case, state, "cpu").requires_grad_(False)
        self.stages = build_stages(model, case.num_frames, 0, "iou", hiera_frames_per_call=case.num_frames)
        parts = {stage.name: to_precision(stage.module, PRECISIONS[dtype]) for stage in self.stages}
        self.parts = nn.ModuleDict(parts).to(device).eval()

    def calls(self, frames: Tensor, audio: Tensor) -> dict[str, StageCall]:
        """Run a clip stage by stage, and list each with the tensors that it was given."""
        return self._run({"FRAMES": frames, "AUDIO": audio})[1]

    def forward(self, frames: Tensor, audio: Tensor) -> Tensor:
        """Run a whole clip -> logits of all candidates [T, 3, S/4, S/4]."""
        return self._run({"FRAMES": frames, "AUDIO": audio})[0]["CANDIDATE_LOGITS"]

    def _run(self, known: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, StageCall]]:
        calls: dict[str, StageCall] = {}
        for stage in self.stages:
            part, inputs = self.parts[stage.name], tuple(known[spec.name] for spec in stage.inputs)
            calls[stage.name] = part, inputs
            known |= zip((spec.name for spec in stage.outputs), part(*inputs), strict=True)
        return known, calls

    def compile_stages(self) -> None:
        """Let Inductor compile each stage at its first call, which takes minutes for the large networks."""
        for part in self.parts.values():
            part.compile(dynamic=False)
