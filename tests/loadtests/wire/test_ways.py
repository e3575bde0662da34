"""Which forms of the wire are measured follows from what client and server take; what is left out has its reason."""

from typing import Any

from loadtests.wire.ways import RAW, WAYS, Way, offered_ways


def client(url: str, wire: str = "auto") -> None: ...


def call(frames: Any, audio: Any) -> None: ...


def test_a_way_is_there_when_every_argument_is() -> None:
    assert Way("jpeg", {"wire": "jpeg"}).missing(client, call, set()) is None
    assert Way("plain").missing(client, call, set()) is None


def test_the_first_argument_that_is_not_there_is_named() -> None:
    shared = Way("shared", {"wire": "raw", "local_memory": True}, of_server={"local_memory": True})
    assert shared.missing(client, call, {"local_memory"}) == "Client has no argument 'local_memory'"
    assert Way("bits", {}, {"answer": "bits"}).missing(client, call, set()) == "Client.segment has no argument 'answer'"
    served = Way("served", of_server={"local_memory": True})
    assert served.missing(client, call, {"build"}) == "ServerConfig has no argument 'local_memory'"


def test_raw_frames_are_always_measured_and_every_way_is_told() -> None:
    ways, left_out = offered_ways()
    assert ways[0].name == RAW.name
    assert {way.name for way in ways} | set(left_out) == {way.name for way in WAYS}
    assert all("has no argument" in reason for reason in left_out.values())
