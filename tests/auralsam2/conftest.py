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


Shapes = dict[str, tuple[int, ...]]


def _key_lists(name: str) -> dict[str, Shapes]:
    shapes: dict[str, Shapes] = {}
    with gzip.open(PARITY / name, "rt") as lines:
        for line in lines:
            form, key, shape = line.rstrip("\n").split("\t")
            sizes = tuple(int(n) for n in shape.split("x")) if shape not in ("", "scalar") else ()
            shapes.setdefault(form, {})[key] = sizes
    return shapes


@pytest.fixture(scope="session")
def released_shapes() -> dict[str, Shapes]:
    """preset -> key -> shape, of every full released checkpoint (no text)."""
    return _key_lists("checkpoint_keys.tsv.gz")


@pytest.fixture(scope="session")
def ref_avs_shapes() -> dict[str, Shapes]:
    """form -> key -> shape, of a Ref-AVS checkpoint of hiera_large, from the modules of the released code.

    whole: with linear heads, text projection and text model | listed: the same, with the fuser's layers in lists alone.
    """
    return _key_lists("checkpoint_keys_ref_avs.tsv.gz")


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
