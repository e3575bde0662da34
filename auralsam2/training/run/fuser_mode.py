"""How the fuser behaves in training: dropout or none, batch norms by clip or by running statistics.

Released, the fuser is in training mode and SAM2 in evaluation mode; the project trains the fuser as it is served.
"""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from auralsam2.network.pvt import Attention, Mlp
from auralsam2.training.settings import BatchNorm


def set_mode(fuser: nn.Module, dropout: float, batch_norm: BatchNorm) -> None:
    """Set dropout of all blocks and what all batch norms, those of the projection heads too, normalise by.

    Dropout reads torch's global random numbers; by clip, running statistics move with each clip that passes.
    """
    for module in fuser.modules():
        if isinstance(module, Attention | Mlp):
            module.dropout = dropout
            module.training = dropout > 0
        elif isinstance(module, _BatchNorm):
            module.training = batch_norm == "clip"
