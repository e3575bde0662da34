"""A real door before a stand-in for the server, which answers at once what it was called with."""

import contextlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest

from service.door.front_door import FrontDoor
from service.door.nginx import find_nginx
from service.server.config import ServerConfig
from service.server.serving import free_ports

needs_nginx = pytest.mark.skipif(
    find_nginx() is None, reason="nginx is not installed: apt-get install nginx-light (.ci/run does)"
)
SERVICE = "/inference.GRPCInferenceService/"
_EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
INFER = f"{SERVICE}ModelInfer"


class StandIn(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Answers every method with what came: path, headers, bytes, seconds left."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def service(self, handler_call_details: Any) -> Any:
        headers = [[item.key, str(item.value)] for item in handler_call_details.invocation_metadata]
        method = handler_call_details.method

        def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
            self.seen.append(method)
            left = context.time_remaining()
            return json.dumps({"headers": headers, "bytes": len(request), "left_s": left}).encode()

        return grpc.unary_unary_rpc_method_handler(answer)


@dataclass
class Standing:
    """The door, the stand-in behind it, and what the door said."""

    door: FrontDoor
    server: StandIn
    lines: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return self.door.door.config.grpc_url


@contextlib.contextmanager
def standing(build: Path, **given: Any) -> Iterator[Standing]:
    (port,) = free_ports(1)
    nginx = find_nginx()
    assert nginx is not None
    lines: list[str] = []
    config = ServerConfig(build, grpc_port=port, **{"door": "on", "canary_interval_s": 0.1, "num_threads": 1, **given})
    handler = StandIn()
    with FrontDoor(config, nginx, lines.append) as door, ThreadPoolExecutor(8) as pool:
        server = grpc.server(pool, options=[("grpc.max_receive_message_length", -1)])
        server.add_generic_rpc_handlers([handler])
        server.add_insecure_port(door.server.grpc_url)
        server.start()
        try:
            door.open()
            yield Standing(door, handler, lines)
        finally:
            server.stop(0).wait(10)


def ask(
    url: str, method: str = INFER, body: bytes = b"", channel: grpc.Channel | None = None, **given: Any
) -> tuple[str, Any]:
    """Status by name, and the stand-in's record, or the words of a refusal."""
    with contextlib.ExitStack() as stack:
        if channel is None:
            channel = stack.enter_context(grpc.insecure_channel(url))
        try:
            answer = channel.unary_unary(method)(body, timeout=20, **given)
        except grpc.RpcError as error:
            call: Any = error
            return call.code().name, call.details()
    with contextlib.suppress(ValueError):
        return "OK", json.loads(answer)
    return "OK", answer


def make_certificates(folder: Path) -> dict[str, Path]:
    """A certificate for 127.0.0.1 and one of a caller, both signed by one authority; made by openssl."""

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    openssl("req", "-x509", *_EC, "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca")
    for name in ("server", "caller"):
        (folder / f"{name}.ext").write_text("subjectAltName=IP:127.0.0.1\n")
        openssl("req", *_EC, "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", "/CN=x")
        signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", f"{name}.ext")
        openssl("x509", "-req", "-in", f"{name}.csr", *signed, "-out", f"{name}.pem")
    return {path.name: path for path in folder.iterdir()}


def has_openssl() -> bool:
    return shutil.which("openssl") is not None
