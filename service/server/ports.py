"""The ports that a server is to listen on: free, or named with the process that holds them."""

import socket

import psutil

from auralsam2_client.errors import ConfigError
from service.server.config import ServerConfig


class PortTaken(ConfigError):
    """A port of the server cannot be listened on now; it may be free later."""


PORTS = ("grpc_port", "metrics_port", "http_port")


def check_ports(config: ServerConfig, *names: str) -> None:
    """Check that the ports of `config`, or those named, can be listened on.

    Raises: PortTaken that names port, holder and option.
    """
    for name in names or PORTS:
        port = getattr(config, name)
        if port is None or (name == "grpc_port" and config.socket is not None):
            continue
        with socket.socket() as probe:
            # As the server does itself: connections that only linger from an earlier run are no obstacle.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((config.host if name == "grpc_port" else config.local_host, port))
            except OSError as error:
                flag = "--" + name.replace("_", "-")
                raise PortTaken(
                    f"Port {port} ({name}) cannot be used: {error.strerror}{_name_holder(port)}. "
                    f"End that process, or take another port with {flag}."
                ) from error


def _name_holder(port: int) -> str:
    """Name who listens on a port, as far as this user may know; "" otherwise."""
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                return f", held by {psutil.Process(connection.pid).name()} (process {connection.pid})"
    except (psutil.Error, OSError):
        pass
    return ""
