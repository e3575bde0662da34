"""The text that nginx gets, without nginx."""

import re
from pathlib import Path

import pytest

from service.door.configuration import Door, is_plain, render
from service.door.nginx import Nginx
from service.door.requests import METHODS
from service.server.config import ServerConfig

MODULE = Path("/m/headers.so")


def text(module: Path | None = MODULE, **given: object) -> str:
    config = ServerConfig(Path("/build"), **{"door": "on", **given})  # type: ignore[arg-type]
    return render(Door(config, Nginx(Path("/nginx"), "1.22.1", module), Path("/run/door"), 12345, "who", "which"))


def locations(written: str) -> set[str]:
    return set(re.findall(r"location = (/\S+) \{", written)) - {"/status"}


def test_only_what_clients_call_has_a_place() -> None:
    assert locations(text()) == set(METHODS)
    assert "location / { return 490; }" in text()


def test_shared_memory_has_one_with_local_memory_alone() -> None:
    more = locations(text(local_memory=True)) - set(METHODS)
    assert {name.rpartition("/")[2] for name in more} == {
        "SystemSharedMemoryRegister",
        "SystemSharedMemoryUnregister",
        "SystemSharedMemoryStatus",
    }


def test_numbers_come_from_the_config() -> None:
    written = text(calls_per_caller=7, requests_per_second=11, drain_timeout_s=13)
    for line in (
        "limit_conn calls 7;",
        "http2_max_concurrent_streams 7;",
        "rate=11r/s;",
        "burst=22 nodelay;",
        "worker_shutdown_timeout 13s;",
        "client_max_body_size 12345;",
    ):
        assert line in written, line


def test_headers_are_taken_away_with_the_module_and_by_name() -> None:
    assert 'load_module "/m/headers.so";' in text()
    assert text().count("more_clear_input_headers") == len(METHODS)
    without = text(None)
    assert "more_clear_input_headers" not in without
    assert "load_module" not in without
    for written in (text(), without):
        assert written.count('grpc_set_header grpc-encoding "";') == len(METHODS)
        assert written.count("grpc_set_header who $caller;") == len(METHODS)
        assert written.count("grpc_set_header which $request_id;") == len(METHODS)


def test_tls_and_callers() -> None:
    plain = text()
    assert "listen 127.0.0.1:8001 http2" in plain
    assert "ssl_" not in plain
    files = {"tls_certificate": Path("/c.pem"), "tls_key": Path("/k.pem")}
    secret = text(host="0.0.0.0", **files)
    assert "listen 0.0.0.0:8001 ssl http2" in secret
    assert "ssl_verify_client" not in secret
    mutual = text(tls_client_ca=Path("/ca.pem"), **files)
    assert "ssl_verify_client on;" in mutual
    assert 'default "cert:$ssl_client_fingerprint"' in mutual


def test_everything_that_nginx_writes_lies_in_the_doors_folder() -> None:
    written = text()
    paths = re.findall(r'(?:_path|pid|access_log|listen|server) "(?:unix:)?(/[^"]*)"', written)
    assert len(paths) >= 9
    assert all(path.startswith("/run/door") for path in paths)
    assert 'access_log "/var/calls"' in text(access_log=Path("/var/calls"))


@pytest.mark.parametrize(
    ("path", "plain"),
    [("/a/b-c.pem", True), ("/a b/c", True), ('/a"; return', False), ("/a$b", False), ("/a;b", False)],
)
def test_a_path_cannot_say_more_than_a_path(path: str, plain: bool) -> None:
    assert is_plain(Path(path)) == plain
