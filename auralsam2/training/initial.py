"""Weights to start from where nothing is pretrained."""

from torch import nn

from auralsam2.vggish import VGGish


def initialise_vggish(vggish: VGGish) -> None:
    """He-normal weights and zero biases.

    PyTorch's default shrinks a signal at each of VGGish's nine layers of ReLU: the embeddings of two sounds then differ
    by a hundredth of what the position added to them is, and the network learns to see long before it can hear.
    """
    for layer in vggish.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
