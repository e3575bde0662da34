"""Weights to start from where nothing is pretrained: such that sound is heard from the first step.

With PyTorch's own initial weights VGGish shrinks a signal at each of its nine ReLUs, and what is left of it drowns in
the position that each stage of the fuser adds: the features of two sounds differ by a few hundredths of their size, and
the network learns to see long before it can hear. So VGGish starts with every unit centred and of unit variance on real
sounds (data-dependent initialisation, Krähenbühl et al. 2016), and the fuser as something close to the identity.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from auralsam2.network.aural_fuser import AuralFuser
from auralsam2.network.vggish import VGGish

MIN_STD = 1e-3
BRANCH_SCALE = 0.1
RELEASED_LINEAR_STD = 0.02


def _standardise(layer: nn.Conv2d | nn.Linear, x: Tensor) -> Tensor:
    """Scale and shift each unit of `layer` so that on `x` it has mean 0 and variance 1; its output then."""
    assert layer.bias is not None
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)
    out: Tensor = layer(x)
    units = out.transpose(0, 1).flatten(1)
    mean, std = units.mean(1), units.std(1)
    std = torch.where(std > MIN_STD, std, torch.ones_like(std))  # a unit that nothing moves stays as it is
    layer.weight.div_(std.view(-1, *[1] * (layer.weight.ndim - 1)))
    layer.bias.copy_(-mean / std)
    standardised: Tensor = layer(x)
    return standardised


@torch.no_grad()
def initialise_vggish(vggish: VGGish, log_mel: Tensor) -> None:
    """Set every layer from sounds like those to come.

    Args:
        log_mel: [N, 2, 96, 64] float32, at least some dozen examples.
    """
    x = log_mel.flatten(0, 1)[:, None]
    for layer in vggish.features:
        x = _standardise(layer, x) if isinstance(layer, nn.Conv2d) else layer(x)
    x = x.permute(0, 2, 3, 1).flatten(1)
    for layer in vggish.embeddings:
        x = _standardise(layer, x) if isinstance(layer, nn.Linear) else F.relu(x)


def _identity(convolution: nn.Module) -> None:
    """Make a 1x1 convolution hand on what it gets."""
    assert isinstance(convolution, nn.Conv1d | nn.Conv2d)
    assert convolution.bias is not None
    nn.init.dirac_(convolution.weight)
    nn.init.zeros_(convolution.bias)


@torch.no_grad()
def initialise_fuser(fuser: AuralFuser) -> None:
    """Let what the encoders say of a sound and of a stride-16 cell pass through the stages unchanged at first.

    The 1x1 convolutions on the way become identities, the blocks' residual branches a tenth of their size, and what the
    two-way fusion adds starts at nothing, as non-local blocks do.
    """
    for module in fuser.fusion_modules:
        _identity(module.get_submodule("align_channel"))
        for name in ("W_z.1", "W_z2.1"):
            nn.init.zeros_(module.get_submodule(name).weight)  # type: ignore[arg-type]
    for convolution in (fuser.patch_embeds[2], *fuser.smooth_convs):
        _identity(convolution)
    for name, parameter in fuser.named_parameters():
        if ".attn.proj." in name or ".mlp.fc2." in name:
            parameter.mul_(BRANCH_SCALE if name.endswith("weight") else 0.0)


@torch.no_grad()
def initialise_fuser_as_released(fuser: AuralFuser) -> None:
    """Begin as the released training code does.

    In the blocks, linear weights are normal with a standard deviation of 0.02, convolutions with sqrt(2 / fan-out), and
    biases are 0. What the two-way fusion adds starts at nothing. The rest stays as it is.
    """
    for blocks in (fuser.f_blocks, fuser.a_blocks):
        for module in blocks.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=RELEASED_LINEAR_STD)
            elif isinstance(module, nn.Conv2d):
                fan_out = math.prod(module.kernel_size) * module.out_channels // module.groups
                nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
            else:
                continue
            assert module.bias is not None
            nn.init.zeros_(module.bias)
    for fusion in fuser.fusion_modules:
        for name in ("W_z.1", "W_z2.1"):
            norm = fusion.get_submodule(name)
            nn.init.zeros_(norm.get_parameter("weight"))
            nn.init.zeros_(norm.get_parameter("bias"))
