"""A server that has answered a hundred clips holds what it held before them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from auralsam2_client.calls.client import Client
from loadtests.resources import read
from service.builds.golden import Golden
from service.server.launcher import Launcher
from service.server.serving import serve_build
from tests.builds import copy_to_serve

WARM_UP, REQUESTS = 60, 100
# A clip of this build crosses the wire with 0.8 MB; its maps between the stages are 5 MB.
BYTES_A_REQUEST = 160 << 10


@pytest.fixture
def launcher(small_build: Path, tmp_path: Path) -> Iterator[Launcher]:
    with serve_build(copy_to_serve(small_build, tmp_path), environ={}) as launcher:
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
