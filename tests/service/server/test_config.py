import re
from pathlib import Path
from typing import Any

import pytest

from auralsam2_client.errors import ConfigError
from service.server.config import ServerConfig, find_server_env

BUILD = Path("/somewhere/build")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"host": "example.org"}, ["example.org", "IPv4", "127.0.0.1"]),
        ({"host": "::1"}, ["::1", "127.0.0.1"]),
        ({"grpc_port": 0}, ["grpc_port = 0", "1 to 65535"]),
        ({"metrics_port": 65536}, ["metrics_port = 65536"]),
        ({"grpc_port": True}, ["grpc_port = True"]),
        ({"grpc_port": "8001"}, ["grpc_port = '8001'"]),
        ({"metrics_port": 8001}, ["grpc_port and metrics_port are both 8001"]),
        ({"http_port": 8002}, ["http_port", "both 8002"]),
        ({"model": ""}, ["model = ''"]),
        ({"num_threads": 0}, ["num_threads = 0"]),
        ({"shm_default_byte_size": 1}, ["shm_default_byte_size = 1"]),
        ({"ready_timeout_s": 0}, ["ready_timeout_s = 0"]),
        ({"canary_interval_s": float("nan")}, ["canary_interval_s = nan"]),
        ({"drain_timeout_s": -1}, ["drain_timeout_s = -1"]),
        ({"restart_limit": -1}, ["restart_limit = -1"]),
        ({"max_sessions": 0}, ["max_sessions = 0", "1 to 1024"]),
        ({"max_session_bytes": 1000}, ["max_session_bytes = 1000"]),
        ({"session_idle_timeout_s": 3601}, ["session_idle_timeout_s = 3601"]),
    ],
)
def test_a_wrong_value_is_named_with_its_limit(changed: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        ServerConfig(BUILD, **changed)
    for word in words:
        assert word in str(caught.value)


def test_defaults_are_loopback_with_http_closed() -> None:
    config = ServerConfig(BUILD)
    assert (config.host, config.grpc_port, config.metrics_port, config.http_port) == ("127.0.0.1", 8001, 8002, None)
    assert config.metrics_url == "http://127.0.0.1:8002/metrics"


def test_a_relative_path_becomes_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert ServerConfig(Path("build")).models == tmp_path / "build" / "models"


def test_the_cache_is_the_build_s_own_unless_another_is_named(tmp_path: Path) -> None:
    assert ServerConfig(BUILD).cache == BUILD / "cache"
    # The stages are told of it under the same name, so what a person sets is what they see.
    named = ServerConfig.from_environment({"AURALSAM2_CACHE_DIR": str(tmp_path)}, build=BUILD)
    assert named.cache == tmp_path


def test_limits_of_sessions_are_the_builds_unless_named() -> None:
    assert ServerConfig(BUILD).max_sessions is None
    named = ServerConfig.from_environment(
        {"AURALSAM2_MAX_SESSIONS": "4", "AURALSAM2_SESSION_IDLE_TIMEOUT_S": "30.5"}, build=BUILD
    )
    assert (named.max_sessions, named.session_idle_timeout_s) == (4, 30.5)


def test_an_installed_server_is_named_by_its_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert ServerConfig(BUILD).tritonserver is None
    monkeypatch.chdir(tmp_path)
    config = ServerConfig.from_environment({"AURALSAM2_TRITONSERVER": "home"}, build=BUILD)
    assert config.tritonserver == tmp_path / "home"


def test_variables_are_read_and_what_is_given_wins() -> None:
    environ = {
        "AURALSAM2_BUILD": "/b",
        "AURALSAM2_GRPC_PORT": "9001",
        "AURALSAM2_HTTP_PORT": "9003",
        "AURALSAM2_DRAIN_TIMEOUT_S": "2.5",
        "AURALSAM2_HOST": "127.0.0.2",
        "AURALSAM2_METRICS_PORT": "9002",
    }
    config = ServerConfig.from_environment(environ, metrics_port=9009)
    assert (config.build, config.grpc_port, config.http_port) == (Path("/b"), 9001, 9003)
    assert (config.drain_timeout_s, config.host, config.metrics_port) == (2.5, "127.0.0.2", 9009)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("GRPC_PORT", "eight"),
        ("GRPC_PORT", ""),
        ("HTTP_PORT", "8000.5"),
        ("DRAIN_TIMEOUT_S", "30s"),
        ("NUM_THREADS", "all"),
        ("SERVER_ENV", ""),
        ("TRITONSERVER", ""),
        ("CACHE_DIR", ""),
        ("LOCAL_MEMORY", "yes"),
        ("GIVE_UP", "maybe"),
    ],
)
def test_a_variable_that_cannot_be_parsed_is_an_error(name: str, text: str) -> None:
    with pytest.raises(ConfigError, match=rf"AURALSAM2_{name} = {re.escape(repr(text))}; must be .*"):
        ServerConfig.from_environment({f"AURALSAM2_{name}": text}, build=BUILD)


def test_every_field_can_come_from_the_environment() -> None:
    texts = dict.fromkeys(("host", "metrics_host"), "127.0.0.1") | {
        "golden_at_start": "always",
        "log_format": "json",
        "local_memory": "True",
        "give_up": "True",
        "door": "on",
        "socket": "/run/grpc",
    }
    secret = {"door": "on", "tls_certificate": Path("c.pem"), "tls_key": Path("k.pem")}
    for name in ServerConfig.__dataclass_fields__:
        text = texts.get(name, "1048576" if "byte" in name else "40")
        given: dict[str, Any] = {} if name == "build" else {"build": BUILD}
        if name.startswith("tls_"):
            given |= {key: value for key, value in secret.items() if key != name}
        config = ServerConfig.from_environment({f"AURALSAM2_{name.upper()}": text}, **given)
        assert text in str(getattr(config, name))


def test_local_memory_is_for_this_machine_alone() -> None:
    assert not ServerConfig(BUILD).local_memory
    assert ServerConfig.from_environment({"AURALSAM2_LOCAL_MEMORY": "1"}, build=BUILD).local_memory
    with pytest.raises(ConfigError, match=r"local_memory is on and host = '0\.0\.0\.0'.*Listen on 127"):
        ServerConfig(BUILD, host="0.0.0.0", local_memory=True)


def test_a_build_must_be_named() -> None:
    with pytest.raises(ConfigError, match="AURALSAM2_BUILD"):
        ServerConfig.from_environment({})


def test_the_server_environment_is_found_from_a_folder_below(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("AURALSAM2_SERVER_ENV", raising=False)
    python = tmp_path / ".venv-server" / "bin" / "python3"
    python.parent.mkdir(parents=True)
    python.touch()
    (tmp_path / "deep" / "er").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "deep" / "er")
    assert find_server_env() == tmp_path / ".venv-server"
    monkeypatch.setenv("AURALSAM2_SERVER_ENV", "/named")
    assert find_server_env() == Path("/named")


@pytest.mark.parametrize(
    ("host", "grpc_url", "local_host"),
    [
        ("127.0.0.1", "127.0.0.1:8001", "127.0.0.1"),
        ("localhost", "localhost:8001", "localhost"),
        ("0.0.0.0", "127.0.0.1:8001", "127.0.0.1"),
        ("192.0.2.7", "192.0.2.7:8001", "127.0.0.1"),
    ],
)
def test_only_grpc_ever_listens_beyond_this_machine(host: str, grpc_url: str, local_host: str) -> None:
    config = ServerConfig(BUILD, host=host)
    assert (config.grpc_url, config.local_host) == (grpc_url, local_host)
    assert config.metrics_url == f"http://{local_host}:8002/metrics"
    assert config.has_door != config.is_loopback
    assert config.is_loopback == (host in ("127.0.0.1", "localhost"))


def test_the_servers_own_metrics_stay_on_this_machine() -> None:
    config = ServerConfig(BUILD, metrics_host="0.0.0.0", exporter_port=8003)
    assert (config.metrics_address, config.metrics_url) == ("0.0.0.0", "http://127.0.0.1:8002/metrics")
    assert config.exporter_url == "http://127.0.0.1:8003/metrics"


def test_behind_a_door_the_server_has_a_socket_alone() -> None:
    files: dict[str, Any] = {"tls_certificate": Path("c.pem"), "tls_key": Path("k.pem"), "access_log": Path("log")}
    config = ServerConfig(BUILD, host="0.0.0.0", metrics_host="0.0.0.0", exporter_port=8003, **files)
    behind = config.behind(Path("/run/door/grpc"))
    assert (config.has_door, behind.has_door) == (True, False)
    assert behind.grpc_url == "unix:/run/door/grpc:8001"
    assert (behind.is_loopback, behind.metrics_address) == (True, "127.0.0.1")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"door": "ajar"}, "auto, on or off"),
        ({"calls_per_caller": 0}, "calls_per_caller = 0"),
        ({"requests_per_second": -1}, "requests_per_second = -1"),
        ({"tls_key": "k", "door": "on"}, "tls_certificate and tls_key"),
        ({"tls_client_ca": "c", "door": "on"}, "tls_client_ca needs"),
        ({"tls_certificate": "c", "tls_key": "k"}, "--door on"),
        ({"socket": "/" + 110 * "s"}, "107 characters"),
    ],
)
def test_a_door_that_cannot_be_is_refused(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        ServerConfig(BUILD, **changed)
