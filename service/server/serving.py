"""Serve a build for as long as a task lasts, on ports of this machine that nobody uses."""

import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from service.server.config import ServerConfig
from service.server.launcher import Launcher


def free_ports(count: int) -> list[int]:
    """Find `count` ports of loopback that nobody uses, and keep them for a minute from all who ask for any port.

    The end of a connection lingers on each (TIME_WAIT): until it is over, the system gives the port neither to another
    caller of this function nor to a connection that leaves this machine's programs. Who names it may listen on it, as
    servers do that allow such ports (SO_REUSEADDR).
    """
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        for each in sockets:
            with socket.create_connection(each.getsockname()) as caller:
                accepted, _ = each.accept()
                # The side that closes first is the one whose end lingers.
                accepted.close()
                caller.recv(1)
        return [int(each.getsockname()[1]) for each in sockets]


@contextmanager
def serve_build(
    build: Path, *, log: Path | None = None, environ: Mapping[str, str] | None = None, **given: Any
) -> Iterator[Launcher]:
    """Serve a build on free ports, and stop the server in any case.

    Args:
        log: the file that gets the server's lines; its folder exists. None: an error quotes the last ones, no more.
        environ: variables AURALSAM2_<FIELD> that set what is not given; None: those of this process.
        given: fields of ServerConfig.
    Yields: the launcher, ready; its `config` tells the ports.
    Raises: ConfigError, ServerFault, ServerTimeout as `Launcher.start` does.
    """
    grpc_port, metrics_port = free_ports(2)
    ports = {"grpc_port": grpc_port, "metrics_port": metrics_port}
    config = ServerConfig.from_environment(environ, build=build, **{**ports, **given})
    with ExitStack() as stack:
        file = None if log is None else stack.enter_context(log.open("w"))

        def keep(line: str) -> None:
            if file is not None:
                print(line, file=file, flush=True)

        yield stack.enter_context(Launcher(config, sink=keep))
