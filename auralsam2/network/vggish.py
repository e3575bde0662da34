"""VGGish: one log-mel example to one embedding.

Source: Hershey et al. 2017, in the form that AuralSAM2's weights use.
"""

import torch
from torch import Tensor, nn

from auralsam2.network.log_mel import NUM_BANDS, NUM_HOPS
from auralsam2.network.precision import cast


class VGGish(nn.Module):
    """Six convolutions in four pooled groups, then three fully connected layers, ReLU after each."""

    def __init__(self, channels: tuple[int, int, int, int], hidden: int, out: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = 1
        for group, num_convs in zip(channels, (1, 1, 2, 2), strict=True):
            for _ in range(num_convs):
                layers += [nn.Conv2d(width, group, 3, padding=1), nn.ReLU()]
                width = group
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        flat = (NUM_HOPS // 16) * (NUM_BANDS // 16) * width
        self.embeddings = nn.Sequential(
            nn.Linear(flat, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, out), nn.ReLU()
        )

    def forward(self, log_mel: Tensor) -> Tensor:
        """Encode [T, 2, 96, 64] float32 log-mel examples, left and right -> [T, 2 * out], left then right, in the
        weights' dtype.
        """
        examples = cast(log_mel, self.features.get_parameter("0.weight").dtype).reshape(-1, 1, NUM_HOPS, NUM_BANDS)
        # The released weights were trained on channels-last maps, so the flattening order is height, width, channel.
        flat = self.features(examples).permute(0, 2, 3, 1).flatten(1)
        embedding: Tensor = self.embeddings(flat)
        return torch.cat([embedding[0::2], embedding[1::2]], dim=1)
