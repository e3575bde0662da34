"""Builds and servers that several rooms' tests share. A build is exported once a session, by our own export."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import hypothesis
import pytest
import torch

# Before anything imports triton: without a GPU its kernels run in the interpreter, on CPU tensors.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

from auralsam2 import AuralSAM2
from auralsam2.data.world.showpiece import FRAMES_PER_SECOND, showpiece
from auralsam2.network.log_mel import SAMPLE_RATE
from auralsam2_client.contract import FROM_PROCEDURAL_WORLD
from export.loading import load_aural_sam2
from export.settings import ExportSettings
from service.results.video import write_video
from service.server.config import ServerConfig
from service.server.launcher import Launcher
from service.server.serving import serve_build
from tests.auralsam2.data import folders as data_set_folders
from tests.builds import COMPACT, SMALL, TINY, built_once, served_once
from tests.cards.on_card import leave_out_without_a_card
from tests.order import longest_first

# What is drawn is the same in every run, so that a run that fails can be repeated.
hypothesis.settings.register_profile("repeatable", derandomize=True)
hypothesis.settings.load_profile("repeatable")

REPOSITORY = Path(__file__).resolve().parent.parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    longest_first(items)
    leave_out_without_a_card(items, asked="gpu" in config.getoption("markexpr"), card=torch.cuda.is_available())


@dataclass(frozen=True)
class Served:
    """A running server, and the network that its graphs were made from."""

    config: ServerConfig
    launcher: Launcher
    settings: ExportSettings
    network: AuralSAM2


def serve(settings: ExportSettings, build: Path) -> Iterator[Served]:
    with serve_build(build, environ={}) as launcher:
        yield Served(launcher.config, launcher, settings, load_aural_sam2(settings))


@pytest.fixture(scope="session")
def compact_settings() -> ExportSettings:
    return COMPACT


@pytest.fixture(scope="session")
def compact_build(compact_settings: ExportSettings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of `compact_settings`, to read and to serve."""
    return served_once(built_once(compact_settings), tmp_path_factory)


@pytest.fixture(scope="session")
def small_build() -> Path:
    """Of `SMALL`. Read only."""
    return built_once(SMALL)


@pytest.fixture(scope="session")
def tiny_build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of `TINY`, to read and to serve."""
    return served_once(built_once(TINY), tmp_path_factory)


@pytest.fixture(scope="session")
def served_compact(compact_settings: ExportSettings, compact_build: Path) -> Iterator[Served]:
    yield from serve(compact_settings, compact_build)


@pytest.fixture(scope="session")
def demo_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The clip of `make demo`, 5 s."""
    piece = showpiece()
    path = tmp_path_factory.mktemp("clip") / "demo.mp4"
    pictures = ((picture, 1) for picture in piece.pictures)
    rate = Fraction(FRAMES_PER_SECOND)
    return write_video(path, pictures, rate, piece.sound, SAMPLE_RATE, comment=FROM_PROCEDURAL_WORLD)


@pytest.fixture(scope="session")
def folders() -> ModuleType:
    """Helpers that write small data sets, from auralsam2/data/folders.py."""
    return data_set_folders


@pytest.fixture(scope="session")
def repository_root() -> Path:
    return REPOSITORY
