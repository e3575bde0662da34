"""How a stage comes onto a device: cast, moved, compiled, captured."""

from dataclasses import replace

import torch
from torch import nn

from auralsam2.network.precision import PRECISIONS, to_precision
from auralsam2.stages.clip_stages import Stage
from auralsam2_client.contract import TensorSpec

from .device.captured import Captured
from .network import InPrecision, NetworkDescription

# Takes samples of sound, which stay in float32.
FIRST_STAGE = "vggish"


class Placing:
    """Puts the stages of one network onto one device. What it captures never runs side by side, and shares a pool."""

    def __init__(self, description: NetworkDescription, device: torch.device) -> None:
        self.device = device
        self._dtype = PRECISIONS[description.precision]
        # Log-mel is a convolution in float32, and cuDNN would run it in TF32.
        torch.backends.cudnn.allow_tf32 = False
        self._pool = torch.cuda.graph_pool_handle() if device.type == "cuda" else None

    def module(self, stage: Stage) -> nn.Module:
        """Cast and move a stage's module; on a card Inductor compiles it in its first call."""
        module = to_precision(stage.module, self._dtype).to(self.device).eval()
        if self.device.type == "cuda":
            module.compile(dynamic=False)
        return module

    def capture(self, module: nn.Module, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> Captured:
        """Capture a module that is on the device."""
        return Captured(module, inputs, outputs, self.device, self._pool)

    def stage(self, stage: Stage) -> Captured:
        """Place a stage and capture it by itself: float32 in and out, as the contract has its tensors."""
        module = InPrecision(self.module(stage), self._dtype, keeps_input=stage.name == FIRST_STAGE)
        inputs, outputs = (
            tuple(replace(spec, shape=stage.graph_shape(spec)) for spec in specs)
            for specs in (stage.inputs, stage.outputs)
        )
        return self.capture(module, inputs, outputs)
