"""Addresses of a server in the forms that people give: brought to host:port, or refused with what is wanted."""

import re
import socket

from auralsam2_client.errors import AuralServeError, BadInput, ServerUnavailable

MAX_PORT = 65535
_WANTED = "give host:port of the server's gRPC, as 127.0.0.1:8001"
# gRPC's own forms of a target, which it resolves by itself.
_TARGET = re.compile(r"(dns|ipv4|ipv6|unix|unix-abstract|vsock|xds):", re.IGNORECASE)
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_PLAIN_SCHEMES = ("http", "grpc")
_PROBE_TIMEOUT_S = 2.0


def parse_address(text: str) -> str:
    """Bring an address to what gRPC takes: "http://host:port/" and "grpc://host:port" are host:port.

    Raises: BadInput naming the address, and that host:port is wanted, for another scheme, a path, or a port that is
    missing or none.
    """
    address = text.strip() if isinstance(text, str) else ""
    if not address:
        raise BadInput(f"The address {text!r} is empty; {_WANTED}.")
    if _TARGET.match(address):
        return address
    scheme = _SCHEME.match(address)
    if scheme is not None:
        if scheme[1].lower() not in _PLAIN_SCHEMES:
            return _refuse(text, f"begins with {scheme[0]}, and the client speaks plain gRPC, without TLS")
        address = address[scheme.end() :].removesuffix("/")
    return _check_place(text, address)


def is_nowhere(error: AuralServeError) -> bool:
    """Tell whether an error says that no server of ours answers, and not that one refuses."""
    return isinstance(error, ServerUnavailable) and error.code is None


def speaks_http(address: str) -> bool:
    """Ask whether what listens at host:port answers HTTP/1, as metrics and web pages do, and so is not gRPC."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_PROBE_TIMEOUT_S) as connection:
            connection.sendall(b"HEAD / HTTP/1.0\r\n\r\n")
            return connection.recv(5) == b"HTTP/"
    except (OSError, ValueError):
        return False


def not_grpc(address: str) -> BadInput:
    """Say that another service than gRPC is at an address."""
    return BadInput(f"What listens at {address} speaks HTTP/1, not gRPC: a port of metrics, or a web page; {_WANTED}.")


def _check_place(text: str, address: str) -> str:
    if any(character in address for character in "/?#@") or any(character.isspace() for character in address):
        return _refuse(text, "has more in it than a host and a port")
    host, colon, port = address.rpartition(":")
    if not colon or address.endswith("]"):
        return _refuse(text, "has no port")
    if not host:
        return _refuse(text, "has no host")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        return _refuse(text, "has more than one colon; an IPv6 address stands in brackets, as [::1]:8001")
    if not (port.isascii() and port.isdigit() and 1 <= int(port) <= MAX_PORT):
        return _refuse(text, f"has the port {port!r}; a port is 1 to {MAX_PORT}")
    return address


def _refuse(text: str, what: str) -> str:
    raise BadInput(f"The address {text!r} {what}; {_WANTED}.")
