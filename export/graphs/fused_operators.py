"""Which operators of `kernels` become ONNX nodes of the domain `auralsam2`, and the PyTorch form that is their body."""

from typing import Any

from torch import Tensor

from export.graphs.operator_functions import FusedOperator
from kernels import operators
from kernels.depthwise_gelu.pytorch import depthwise_gelu
from kernels.fusion.pytorch import fuse
from kernels.fusion.weights import FusionWeights
from kernels.memory_attention.pytorch import memory_attention


def _fusion(visual: Tensor, audio: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    *weights, form = rest  # by position, as the operator takes them
    return fuse(visual, audio, FusionWeights(*weights), form)


OPERATORS = (
    FusedOperator(operators.audio_visual_fusion._opoverload, "AudioVisualFusion", _fusion),
    FusedOperator(operators.memory_attention._opoverload, "MemoryAttention", memory_attention),
    FusedOperator(operators.depthwise_gelu._opoverload, "DepthwiseGelu", depthwise_gelu),
)
