"""The command line, for a server that lists this flag or that."""

import re
from pathlib import Path

import pytest

from auralsam2_client.errors import ConfigError
from model_repository.stage_runtime.callers import CALLER_HEADER, REQUEST_HEADER
from service.server.config import ServerConfig, find_server_env
from service.server.flags import OPTIONAL_FENCES, command_line, known_flags
from service.server.runtime import Program, embedded_program, environment, find_runtime
from tests.service.toy.installed import program

CONFIG = ServerConfig(Path("/somewhere/build"))


def server(path: Path, text: str) -> Program:
    program(path, f"#!/bin/sh\n{text}\n")
    return Program(path, path.parent / "backends", ("/usr/bin", "/bin"), ())


def line(known: set[str], config: ServerConfig = CONFIG, **changed: object) -> list[str]:
    settings: dict[str, object] = {"python_stages": True, "memory_flags": [], **changed}
    return command_line(Program(Path("/t"), Path("/b"), (), ()), config, "mark_", frozenset(known), **settings)  # type: ignore[arg-type]


def test_the_embedded_server_lists_every_flag_that_it_is_given(tmp_path: Path) -> None:
    embedded = embedded_program(find_runtime(find_server_env()), tmp_path)
    known = known_flags(embedded, environment(embedded, CONFIG, "mark_"))
    # Client shared memory has no switch in this release.
    assert "--allow-client-shm" not in known
    assert {"--cuda-memory-pool-byte-size", "--pinned-memory-pool-byte-size", "--http-restricted-api"} <= known
    given = command_line(
        embedded,
        ServerConfig(Path("/somewhere/build"), http_port=8000),
        "mark_",
        known,
        python_stages=True,
        memory_flags=["--cuda-memory-pool-byte-size=0:1"],
    )
    assert {flag.split("=")[0] for flag in given[1:]} <= known
    assert "--allow-client-shm=false" not in given


def test_optional_fences_are_given_to_servers_that_list_them() -> None:
    for fence in OPTIONAL_FENCES:
        assert fence in line({fence.split("=")[0]})
        assert fence not in line(set())


def test_shared_memory_is_closed_to_clients_unless_it_is_opened() -> None:
    switch = {"--allow-client-shm"}
    opened = ServerConfig(Path("/somewhere/build"), local_memory=True, http_port=8000)
    assert "--allow-client-shm=false" in line(switch)
    assert "--allow-client-shm=true" in line(switch, opened)
    assert not [flag for flag in line(set(), opened) if flag.startswith("--allow-client-shm")]
    restricted = "--grpc-restricted-protocol=model-repository,model-config,logging,trace,statistics:"
    assert any(flag.startswith(restricted) for flag in line(set(), opened))
    assert any(flag.startswith("--http-restricted-api=shared-memory,model-rep") for flag in line(set(), opened))


def test_required_flags_are_always_given() -> None:
    least = line(set())
    for flag in ("--model-control-mode=none", "--strict-readiness=true", "--allow-http=false", "--allow-grpc=true"):
        assert flag in least
    assert any(flag.startswith("--grpc-restricted-protocol=shared-memory,model-repository,") for flag in least)
    # A flag is given once: the server takes the last.
    names = [flag.split("=")[0] for flag in least if not flag.startswith("--backend-config=")]
    assert len(names) == len(set(names))


def test_settings_of_the_python_backend_go_with_python_stages_only() -> None:
    assert len([flag for flag in line(set()) if flag.startswith("--backend-config=python,shm-")]) == 3
    assert not [flag for flag in line(set(), python_stages=False) if "python" in flag]


def test_memory_flags_are_passed_on() -> None:
    pools = ["--cuda-memory-pool-byte-size=0:469762048", "--pinned-memory-pool-byte-size=134217728"]
    assert line(set(), memory_flags=pools)[-2:] == pools


def test_flags_are_read_from_either_stream_and_not_from_prose(tmp_path: Path) -> None:
    text = "printf '  --model-repository <s>\\n\\t--in-prose is no flag.\\n'; echo '  --log-verbose <i>' >&2; exit 1"
    assert known_flags(server(tmp_path / "server", text), {}) == {"--model-repository", "--log-verbose"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("echo 'error while loading shared libraries: libcudart.so.13' >&2; exit 127", r"libcudart\.so\.13"),
        ("exit 1", "exit 1"),
        ("echo '  --something else'", "something else"),
    ],
)
def test_a_server_that_lists_no_flags_is_quoted(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=rf"--help lists no flags.*{words}.*auralsam2 doctor"):
        known_flags(server(tmp_path / "server", text), {})


def test_a_server_that_does_not_run_is_named(tmp_path: Path) -> None:
    path = tmp_path / "server"
    path.touch()
    with pytest.raises(ConfigError, match=rf"{path} does not run"):
        known_flags(Program(path, tmp_path, (), ()), {})


def test_behind_a_door_what_it_says_of_a_call_reaches_the_stages_and_nothing_else() -> None:
    pattern = "--grpc-header-forward-pattern="
    assert not [flag for flag in line(set()) if flag.startswith(pattern)]
    behind = line(set(), CONFIG.behind(Path("/run/grpc")))
    assert "--grpc-address=unix:/run/grpc" in behind
    (forwarded,) = [flag.removeprefix(pattern) for flag in behind if flag.startswith(pattern)]
    assert re.search(forwarded, CALLER_HEADER)
    assert re.search(forwarded, REQUEST_HEADER)
    assert not any(
        re.search(forwarded, name) for name in ("x", "grpc-timeout", f"x{CALLER_HEADER}", f"{CALLER_HEADER}-2")
    )


def test_the_servers_metrics_listen_on_this_machine_alone() -> None:
    given = ServerConfig(Path("/somewhere/build"), metrics_host="0.0.0.0", exporter_port=8003)
    assert "--metrics-address=127.0.0.1" in line(set(), given)
