"""The plain form against the PVT block's own layers."""

import torch
import torch.nn.functional as F

from auralsam2.network.pvt import DepthWise
from kernels.depthwise_gelu.pytorch import depthwise_gelu


def test_same_as_the_block() -> None:
    torch.manual_seed(0)
    layer, hidden = DepthWise(16).double(), torch.randn(2, 35 * 35, 16, dtype=torch.float64)
    with torch.no_grad():
        ours = depthwise_gelu(hidden, layer.dwconv.weight, layer.dwconv.bias, 35)
        assert torch.equal(ours, F.gelu(layer(hidden, 35)))
