"""Fixtures of the network tests: no gradients anywhere, and random weights that keep rounding errors small."""

import gzip
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

PARITY = Path(__file__).parent / "parity"


@pytest.fixture(scope="package", autouse=True)
def _one_thread() -> Iterator[None]:
    # On a shared machine two spinning threads take four times as long as one that is never waited for.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture(scope="session")
def parity_folder() -> Path:
    return PARITY


@pytest.fixture(scope="session")
def released_shapes() -> dict[str, dict[str, tuple[int, ...]]]:
    """preset -> key -> shape, of every full released checkpoint (no text)."""
    shapes: dict[str, dict[str, tuple[int, ...]]] = {}
    with gzip.open(PARITY / "checkpoint_keys.tsv.gz", "rt") as lines:
        for line in lines:
            preset, key, shape = line.rstrip("\n").split("\t")
            sizes = tuple(int(n) for n in shape.split("x")) if shape not in ("", "scalar") else ()
            shapes.setdefault(preset, {})[key] = sizes
    return shapes


@pytest.fixture(scope="session")
def well_scaled() -> Callable[[nn.Module, int], nn.Module]:
    """Fill a module with random weights of standard deviation 1 / sqrt(fan in), so that no softmax saturates."""

    def fill(module: nn.Module, seed: int) -> nn.Module:
        draw = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for key, value in module.state_dict().items():
                if not value.is_floating_point():
                    continue
                noise = torch.randn(value.shape, generator=draw)
                if key.endswith("running_var"):
                    value.copy_(0.5 + noise.abs())
                elif value.ndim < 2:
                    value.copy_(0.1 * noise + (1.0 if key.endswith("weight") else 0.0))
                else:
                    value.copy_(noise / value[0].numel() ** 0.5)
        return module.eval()

    return fill
