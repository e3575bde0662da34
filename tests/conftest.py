"""Builds and servers that several rooms' tests share. A build is exported once a session, by our own export."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from auralsam2 import AuralSAM2
from export.repository import build_repository
from export.settings import ExportSettings, load_model
from service.config import ServerConfig
from service.demo import free_ports
from service.launcher import Launcher

REPOSITORY = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Served:
    """A running server, and the network that its graphs were made from."""

    config: ServerConfig
    launcher: Launcher
    settings: ExportSettings
    network: AuralSAM2


def serve(settings: ExportSettings, build: Path) -> Iterator[Served]:
    grpc_port, metrics_port = free_ports(2)
    config = ServerConfig(build=build, grpc_port=grpc_port, metrics_port=metrics_port)
    with Launcher(config, sink=lambda line: None) as launcher:
        yield Served(config, launcher, settings, load_model(settings))


@pytest.fixture(scope="session")
def compact_settings() -> ExportSettings:
    return ExportSettings(preset="compact")


@pytest.fixture(scope="session")
def compact_build(tmp_path_factory: pytest.TempPathFactory, compact_settings: ExportSettings) -> Path:
    return build_repository(compact_settings, tmp_path_factory.mktemp("builds") / compact_settings.name)


@pytest.fixture(scope="session")
def served_compact(compact_settings: ExportSettings, compact_build: Path) -> Iterator[Served]:
    yield from serve(compact_settings, compact_build)


@pytest.fixture(scope="session")
def repository_root() -> Path:
    return REPOSITORY
