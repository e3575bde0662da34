"""Clips by shared memory, on the real server: the same answers, nothing left, one error where a side is closed."""

import asyncio
import base64
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from auralsam2_client.calls import local_memory
from auralsam2_client.calls.async_client import AsyncClient
from auralsam2_client.calls.client import Client
from auralsam2_client.calls.local_memory import sweep_server
from auralsam2_client.card_regions import LIBRARY
from auralsam2_client.contract import RESULTS
from auralsam2_client.errors import ConfigError, ServerTimeout
from auralsam2_client.local_regions import FOLDER
from service.server.launcher import Launcher
from tests.service.toy import build_folder as toy
from tests.service.toy.running import eventually, toy_config

KILLED = """
import sys
from auralsam2_client.calls.client import Client
from tests.service.toy import build_folder as toy
client = Client(sys.argv[1], local_memory=True)
client.infer(*toy.clip())
print("answered", flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy.write(tmp_path_factory.mktemp("toy") / "build")


@pytest.fixture(scope="module")
def launcher(build: Path) -> Iterator[Launcher]:
    with Launcher(toy_config(build, local_memory=True), sink=lambda line: None) as launcher:
        yield launcher
        launcher.stop(drain_s=0)


@pytest.fixture(autouse=True)
def everything_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_memory, "LEAST_BYTES", 1)


def regions(pid: int | None = None) -> set[str]:
    """Those of a process, this one without a number: others of the machine may come and go."""
    return {path.name for path in FOLDER.glob(f"auralsam2_local_{pid or os.getpid()}_*")}


def known(client: Client) -> set[str]:
    return set(client._wire.get_system_shared_memory_status().regions)


def let_go(client: Client, region: str) -> bool:
    """Unregister a region, which the server may hold a moment longer than it takes to answer."""
    try:
        client._wire.unregister_system_shared_memory(region)
    except InferenceServerException:
        return False
    return True


def test_answers_are_those_of_messages_and_a_region_is_used_again(launcher: Launcher) -> None:
    before = regions()
    with Client(launcher.config.grpc_url, local_memory=True) as client:
        for seed in range(3):
            frames, audio = toy.clip(seed)
            found = client.infer(frames, audio, outputs=RESULTS)
            for name, wanted in toy.expected(frames, audio).items():
                np.testing.assert_array_equal(found[name], wanted)
                assert found[name].flags.writeable, "a copy, which the next clip leaves alone"
        assert len(regions() - before) == 1
        assert len(known(client)) == 1
    assert regions() == before
    with Client(launcher.config.grpc_url) as other:
        assert known(other) == set()


def test_threads_get_their_own_answers(launcher: Launcher) -> None:
    clips = [toy.clip(seed) for seed in range(12)]
    with Client(launcher.config.grpc_url, local_memory=True) as client, ThreadPoolExecutor(4) as people:
        for clip, found in zip(clips, people.map(lambda clip: client.infer(*clip), clips), strict=True):
            np.testing.assert_array_equal(found["MASK_LOGITS"], toy.expected(*clip)["MASK_LOGITS"])
        assert 1 <= len(known(client)) <= 4


@pytest.mark.asyncio
async def test_the_asyncio_client_does_the_same(launcher: Launcher) -> None:
    before = regions()
    clips = [toy.clip(seed) for seed in range(4)]
    async with AsyncClient(launcher.config.grpc_url, local_memory=True) as client:
        for clip, found in zip(clips, await asyncio.gather(*(client.infer(*clip) for clip in clips)), strict=True):
            np.testing.assert_array_equal(found["MASK_LOGITS"], toy.expected(*clip)["MASK_LOGITS"])
        with pytest.raises(ServerTimeout):
            await client.infer(toy.asking(clips[0][0], "sleep", 1), clips[0][1], timeout_s=0.3)
        assert regions() > before
    assert regions() == before


def test_a_region_in_which_the_server_still_works_is_not_used_again(launcher: Launcher) -> None:
    before = regions()
    frames, audio = toy.clip()
    with Client(launcher.config.grpc_url, local_memory=True) as client:
        with pytest.raises(ServerTimeout):
            client.infer(toy.asking(frames, "sleep", 1), audio, timeout_s=0.3)
        (held,) = regions() - before
        client.infer(frames, audio)
        eventually(lambda: client.infer(frames, audio) and held not in regions(), within_s=10)
    assert regions() == before


def test_the_regions_of_a_killed_client_vanish(launcher: Launcher, repository_root: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, launcher.config.grpc_url],
        cwd=repository_root,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "answered\n"
        with Client(launcher.config.grpc_url) as service:
            sweep_server(launcher.config.grpc_url)
            (left,) = regions(process.pid)
            assert left in known(service), "it lives"
            process.send_signal(signal.SIGKILL)
            process.wait()
            assert left in regions(process.pid) & known(service), "nobody could clear up"
            # As the supervisor asks with every golden clip.
            eventually(lambda: sweep_server(launcher.config.grpc_url) and left not in known(service))
            assert regions(process.pid) == set()


def test_a_server_that_forgot_its_regions_is_told_them_again(launcher: Launcher) -> None:
    """As one does that was started again."""
    before = regions()
    frames, audio = toy.clip()
    with Client(launcher.config.grpc_url, local_memory=True) as client:
        client.infer(frames, audio)
        (first,) = regions() - before
        eventually(lambda: let_go(client, first))
        found = client.infer(frames, audio)
        np.testing.assert_array_equal(found["MASK_LOGITS"], toy.expected(frames, audio)["MASK_LOGITS"])
        (second,) = regions() - before
        assert first != second
    assert regions() == before


def test_memory_of_a_card_that_is_none_is_refused_and_the_server_goes_on(
    launcher: Launcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client's library is stood in for; the server is the real one, and gets a handle that opens nothing."""

    class NoCard:
        create_shared_memory_region = staticmethod(lambda name, num_bytes, card: name)
        get_raw_handle = staticmethod(lambda memory: base64.b64encode(bytes(64)))
        set_shared_memory_region = staticmethod(lambda memory, values: None)
        destroy_shared_memory_region = staticmethod(lambda memory: None)

    before, clip = regions(), toy.clip()
    monkeypatch.setitem(sys.modules, LIBRARY, NoCard)
    with Client(launcher.config.grpc_url, local_memory="cuda") as client:
        with pytest.raises(ConfigError, match=r"takes no local memory .* on the same card"):
            client.infer(*clip)
        assert known(client) == set()
    assert regions() == before
    with Client(launcher.config.grpc_url, local_memory=True) as client:
        np.testing.assert_array_equal(client.infer(*clip)["MASK_LOGITS"], toy.expected(*clip)["MASK_LOGITS"])
    assert launcher.fault() is None


def test_a_closed_server_says_so_to_a_client_that_wants_it_and_serves_the_others(build: Path) -> None:
    frames, audio = toy.clip()
    before = regions()
    with Launcher(toy_config(build), sink=lambda line: None) as closed:
        with (
            Client(closed.config.grpc_url, local_memory=True) as client,
            pytest.raises(ConfigError, match=r"takes no local memory .*`auralsam2 serve --local-memory`"),
        ):
            client.infer(frames, audio)
        with Client(closed.config.grpc_url) as client:
            client.infer(frames, audio)
        closed.stop(drain_s=0)
    assert regions() == before
