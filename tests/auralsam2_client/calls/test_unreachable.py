"""A client without a server: every call has a deadline, and says what is missing."""

import socket
import time
from types import SimpleNamespace
from typing import Any

import pytest

from auralsam2_client.calls import client as client_module
from auralsam2_client.calls.client import Client
from auralsam2_client.errors import BadInput, ServerTimeout, ServerUnavailable
from service.server.serving import free_ports
from tests.service.toy import build_folder as toy


@pytest.mark.parametrize("settings", [{"timeout_s": 0}, {"timeout_s": float("nan")}, {"retries": -1}, {"retries": 11}])
def test_a_client_has_a_deadline_and_few_retries(settings: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        Client(**settings)


def test_no_server_is_unavailable_at_once() -> None:
    url = f"127.0.0.1:{free_ports(1)[0]}"
    with Client(url, timeout_s=3) as client:
        assert not client.is_ready(timeout_s=2)
        with pytest.raises(ServerUnavailable, match=url):
            client.infer(*toy.clip())


def test_a_pause_beyond_the_deadline_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(client_module, "time", SimpleNamespace(monotonic=time.monotonic, sleep=slept.append))
    monkeypatch.setattr(client_module, "pauses", lambda retries: iter([0.5, 3600.0, 0.5, None]))
    with Client(f"127.0.0.1:{free_ports(1)[0]}", timeout_s=600, retries=3) as client, pytest.raises(ServerUnavailable):
        client.infer(*toy.clip())
    assert slept == [0.5]


def test_a_server_that_never_answers_is_a_timeout() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        # That the call ends says that its deadline holds: nothing else would end it.
        with (
            Client(f"127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.5) as client,
            pytest.raises((ServerTimeout, ServerUnavailable)),
        ):
            client.infer(*toy.clip())


def test_a_closed_client_says_so() -> None:
    client = Client("127.0.0.1:8001")
    client.close()
    client.close()
    with pytest.raises(ServerUnavailable, match=r"was closed.*Make another one"):
        client.infer(*toy.clip())
