"""A server that has answered a hundred clips holds what it held before them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtests.resources import read
from service.client import Client
from service.config import ServerConfig
from service.demo import free_ports
from service.golden import Golden
from service.launcher import Launcher
from tests.builds import copy_to_serve

WARM_UP, REQUESTS = 60, 100
# A clip of this build crosses the wire with 0.8 MB; its maps between the stages are 5 MB.
BYTES_A_REQUEST = 160 << 10


@pytest.fixture
def launcher(small_build: Path, tmp_path: Path) -> Iterator[Launcher]:
    grpc_port, metrics_port = free_ports(2)
    config = ServerConfig(build=copy_to_serve(small_build, tmp_path), grpc_port=grpc_port, metrics_port=metrics_port)
    with Launcher(config, sink=lambda line: None) as launcher:
        yield launcher


def test_memory_and_files_do_not_grow_with_requests(launcher: Launcher, small_build: Path) -> None:
    golden = Golden.load(small_build)
    with Client(launcher.config.grpc_url) as client:
        for _ in range(WARM_UP):
            client.infer(golden.frames, golden.audio)
        before = read(launcher)
        for _ in range(REQUESTS):
            client.infer(golden.frames, golden.audio)
        after = read(launcher)
    assert after.resident_bytes - before.resident_bytes < REQUESTS * BYTES_A_REQUEST
    assert after.shared_memory_bytes == before.shared_memory_bytes
    assert (after.num_processes, after.open_files) == (before.num_processes, before.open_files)
