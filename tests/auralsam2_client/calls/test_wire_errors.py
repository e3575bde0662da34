"""The server's own words: few, in one place, and really the server's."""

from pathlib import Path
from typing import Any

import grpc
import pytest
import tritonclient.grpc as blocking
from tritonclient.utils import InferenceServerException

from auralsam2_client.calls import wire_errors
from auralsam2_client.calls.wire_errors import SAID_BY_THE_SERVER, WIRE_ERRORS, reason_of, translate
from auralsam2_client.contract import Reason
from auralsam2_client.errors import ConfigError, ServerUnavailable
from service.server.config import find_server_env


@pytest.fixture(scope="module")
def library() -> bytes:
    """Of the embedded server's package: the code that says them."""
    (path,) = find_server_env().glob("lib/python*/site-packages/nvidia_pytriton.libs/libtritonserver-*.so")
    return Path(path).read_bytes()


@pytest.mark.parametrize("words", [part for _, part, _ in SAID_BY_THE_SERVER])
def test_the_embedded_server_says_them(words: str, library: bytes) -> None:
    assert words.encode() in library


def test_their_release_is_the_embedded_one() -> None:
    assert "2.51" in (wire_errors.__doc__ or "")


@pytest.mark.parametrize(
    ("status", "words", "kind", "reason"),
    [
        ("UNAVAILABLE", "Exceeds maximum queue size", ServerUnavailable, Reason.QUEUE_FULL),
        ("NOT_FOUND", "Request for unknown model: 'x' has no available versions", ServerUnavailable, Reason.UNREADY),
        # The same words with another status are not those.
        ("NOT_FOUND", "Request for unknown model: 'queue' is not found", ConfigError, None),
        ("UNAVAILABLE", "queue", ServerUnavailable, None),
    ],
)
def test_they_count_with_their_status_only(
    status: str, words: str, kind: type[Exception], reason: Reason | None
) -> None:
    error: Any = InferenceServerException(words, status=f"StatusCode.{status}")
    found = translate(error, url="here", timeout_s=1)
    assert type(found) is kind
    assert found.code is reason
    assert reason_of("INTERNAL", words) is None


def test_a_closed_channel_says_so_without_a_status() -> None:
    client = blocking.InferenceServerClient("127.0.0.1:1")
    client.close()
    with pytest.raises(WIRE_ERRORS) as caught:
        client.get_model_metadata("auralsam2", client_timeout=1)
    assert not isinstance(caught.value, grpc.Call)
    found = translate(caught.value, url="here", timeout_s=1)
    assert (type(found), found.code) == (ServerUnavailable, Reason.UNREADY)
