"""A small network on disk, as a build for target cuda has it, and one of it placed on the CPU."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from export.loading import load_aural_sam2
from model_repository.stage_runtime.pytorch.network import Network, NetworkDescription, write_network
from model_repository.stage_runtime.pytorch.placing import Placing
from tests.builds import SMALL


@pytest.fixture(scope="package", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights and description of the small network, in float32."""
    folder = tmp_path_factory.mktemp("network")
    description = NetworkDescription(
        SMALL.preset, SMALL.size, SMALL.num_frames, SMALL.conditioning_frame, SMALL.read_out, "float32", "cpu"
    )
    write_network(folder, description, load_aural_sam2(SMALL))
    return folder


@pytest.fixture
def network(folder: Path) -> Network:
    return Network(folder)


def in_precision(network: Network, precision: str) -> Placing:
    """How the stages of the same weights come onto the CPU in another type."""
    network.description = replace(network.description, precision=precision)
    return Placing(network.description, torch.device("cpu"))
