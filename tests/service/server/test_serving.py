"""A build served for as long as a task lasts: on ports of its own, and gone afterwards."""

import socket
from pathlib import Path

import numpy as np
import pytest

from auralsam2_client.calls.client import Client
from auralsam2_client.errors import ConfigError
from service.server.serving import free_ports, serve_build
from tests.service.toy import build_folder as toy
from tests.service.toy.running import alive


def test_free_ports_are_all_others() -> None:
    assert len(set(free_ports(20))) == 20


def test_a_port_that_was_found_is_given_to_nobody_who_asks_for_any_but_can_be_listened_on() -> None:
    """Two starts at one time: between finding a port and listening on it, another process must not get the same."""
    found = set(free_ports(100))
    others = set[int]()
    for _ in range(4000):
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            others.add(other.getsockname()[1])
    assert len(others) > 1000, "or nothing was asked"
    assert found & others == set()
    for port in found:
        socket.create_server(("127.0.0.1", port)).close()


def test_a_build_answers_on_ports_of_its_own_and_its_log_is_kept(tmp_path: Path) -> None:
    build, log = toy.write(tmp_path / "build"), tmp_path / "server.log"
    frames, audio = toy.clip(3)
    environ = {"AURALSAM2_DRAIN_TIMEOUT_S": "7", "AURALSAM2_READY_TIMEOUT_S": "5"}
    with serve_build(build, log=log, environ=environ, ready_timeout_s=60) as launcher:
        # What is given wins over the environment.
        config = launcher.config
        assert (config.drain_timeout_s, config.ready_timeout_s) == (7, 60)
        assert not {config.grpc_port, config.metrics_port} & {8001, 8002}
        with Client(config.grpc_url, timeout_s=20) as client:
            answer = client.infer(frames, audio)
    assert np.array_equal(answer["MASK_LOGITS"], toy.expected(frames, audio)["MASK_LOGITS"])
    assert "auralsam2" in log.read_text()


def test_the_server_ends_with_an_error_of_the_task(tmp_path: Path) -> None:
    build = toy.write(tmp_path / "build")
    pids: list[int] = []

    def fail() -> None:
        with serve_build(build, environ={}) as launcher:
            assert launcher.pid is not None
            pids.extend([launcher.pid, *launcher.stage_pids])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert len(pids) > 1
    assert not any(alive(pid) for pid in pids)


def test_a_variable_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigError, match="AURALSAM2_READY_TIMEOUT_S"),
        serve_build(tmp_path, environ={"AURALSAM2_READY_TIMEOUT_S": "soon"}),
    ):
        pass
