"""Callers that seem to come from another machine."""

import socket
import threading

from loadtests.chaos.other_address import from_address


def test_a_connection_comes_from_the_address_that_was_asked_for_and_carries_both_ways() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        seen: list[str] = []

        def answer() -> None:
            line, (address, _) = server.accept()
            seen.append(address)
            with line:
                line.sendall(line.recv(100)[::-1])

        thread = threading.Thread(target=answer)
        thread.start()
        with (
            from_address("127.0.0.2", server.getsockname()[1]) as port,
            socket.create_connection(("127.0.0.1", port), timeout=30) as line,
        ):
            line.sendall(b"there")
            assert line.recv(100) == b"ereht"
            assert line.recv(100) == b""
        thread.join(30)
    assert seen == ["127.0.0.2"]
