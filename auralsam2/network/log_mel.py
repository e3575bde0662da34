"""VGGish's log-mel front end as a module, so that it is the same code in training, in the graph and in tests.

Source  Hershey et al. 2017 (VGGish): 16 kHz, periodic Hann window of 25 ms, hop 10 ms, magnitude of a 512-point FFT,
        64 HTK mel bands from 125 to 7500 Hz, log(mel + 0.01).
Shapes  one window of 15600 samples holds 96 hops: 95 * 160 + 400.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from auralsam2_client.contract import HOP_SAMPLES as HOP_SAMPLES
from auralsam2_client.contract import SAMPLE_RATE as SAMPLE_RATE
from auralsam2_client.contract import WINDOW_SAMPLES as WINDOW_SAMPLES

NUM_HOPS = 96
NUM_BANDS = 64
STFT_WINDOW = 400
STFT_HOP = 160
FFT_SIZE = 512
LOWEST_HZ, HIGHEST_HZ = 125.0, 7500.0
LOG_OFFSET = 0.01


def _mel(hz: Tensor) -> Tensor:
    return 1127.0 * torch.log1p(hz / 700.0)


def mel_matrix() -> Tensor:
    """Build the [257, 64] float64 matrix, FFT magnitudes to mel bands: triangles in mel space, nothing from bin 0."""
    bins = _mel(torch.linspace(0, SAMPLE_RATE / 2, FFT_SIZE // 2 + 1, dtype=torch.float64))
    low, high = (_mel(torch.tensor(hz, dtype=torch.float64)).item() for hz in (LOWEST_HZ, HIGHEST_HZ))
    edges = torch.linspace(low, high, NUM_BANDS + 2, dtype=torch.float64)
    rising = (bins[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins[:, None]) / (edges[2:] - edges[1:-1])
    matrix = torch.minimum(rising, falling).clamp(min=0)
    matrix[0] = 0
    return matrix


def windowed_dft() -> Tensor:
    """Build [514, 400] float64: cosine rows, then sine rows, of the 512-point DFT, multiplied by the Hann window."""
    n = torch.arange(STFT_WINDOW, dtype=torch.float64)
    hann = 0.5 - 0.5 * torch.cos(2 * math.pi * n / STFT_WINDOW)
    angle = 2 * math.pi * torch.arange(FFT_SIZE // 2 + 1, dtype=torch.float64)[:, None] * n / FFT_SIZE
    return torch.cat([torch.cos(angle), torch.sin(angle)]) * hann


class LogMel(nn.Module):
    """Sound to log-mel examples. The Fourier transform is a strided convolution: one operator that every engine has."""

    dft: Tensor
    mel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("dft", windowed_dft().float()[:, None], persistent=False)
        self.register_buffer("mel", mel_matrix().float(), persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        """Log-mel examples of each window and channel.

        Args:
            audio: [T, 15600, 2] float32, left and right at 16 kHz, nominally in [-1, 1].
        Returns: [T, 2, 96, 64] float32.
        """
        num_windows = audio.shape[0]
        waves = audio.transpose(1, 2).reshape(num_windows * 2, 1, WINDOW_SAMPLES)
        spectrum = F.conv1d(waves, self.dft, stride=STFT_HOP)  # [2T, 514, 96]
        real, imaginary = spectrum.split(FFT_SIZE // 2 + 1, dim=1)
        magnitude = torch.sqrt(real * real + imaginary * imaginary)
        mel = magnitude.transpose(1, 2) @ self.mel  # [2T, 96, 64]
        return torch.log(mel + LOG_OFFSET).reshape(num_windows, 2, NUM_HOPS, NUM_BANDS)
