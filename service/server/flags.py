"""The server's command line: everything closed that a clip does not need, for whichever release is started."""

import os
import re
import secrets
import subprocess
from collections.abc import Sequence

from auralsam2_client.errors import ConfigError
from service.server.config import ServerConfig
from service.server.runtime import Program

# Everything but health, metadata and inference.
RESTRICTED = "model-repository,model-config,logging,trace,statistics"
# The header that opens it over gRPC. The key shows in the list of processes, so nobody may be able to send it: names of
# headers are small letters in HTTP/2, a server refuses a request with others, and compares this one letter by letter.
NO_HEADER = "AuralSAM2-Closed"
# What callers on this machine may hand clips over by; open on request alone.
SHARED_MEMORY = "shared-memory"
ALLOW_SHARED_MEMORY = "--allow-client-shm"
# Fences of what only some servers have, by release (client shared memory has a switch since 26.04) or by how they were
# made (the rest). A flag that a server does not know ends it; what it does not list it does not have, or cannot close.
OPTIONAL_FENCES = (
    "--allow-sagemaker=false",
    "--allow-vertex-ai=false",
    "--trace-config=level=off",
)
# Prose below a flag is indented by a tab, and may name others.
_FLAG = re.compile(r"^ *(--[a-z][a-z0-9-]*)", re.MULTILINE)


def known_flags(program: Program, variables: dict[str, str]) -> frozenset[str]:
    """List the flags of a server, as "--id". Raises: ConfigError when it does not run, or lists none."""
    try:
        answer = subprocess.run(
            [program.tritonserver, "--help"],
            env=variables,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise ConfigError(f"{program.tritonserver} does not run: {error}. Run `auralsam2 doctor`.") from error
    found = frozenset(_FLAG.findall(answer.stdout + answer.stderr))
    if "--model-repository" not in found:
        words = (answer.stderr or answer.stdout).strip().splitlines() or [f"exit {answer.returncode}"]
        raise ConfigError(
            f"{program.tritonserver} --help lists no flags, so it is no server that can be started here:"
            f" {words[-1][:300]}. Run `auralsam2 doctor`."
        )
    return found


def command_line(
    program: Program,
    config: ServerConfig,
    mark: str,
    known: frozenset[str],
    *,
    python_stages: bool,
    memory_flags: Sequence[str],
) -> list[str]:
    """Build the server's command line: program and flags.

    Args:
        mark: names the run's shared memory.
        known: from `known_flags`; only optional fences are left out by it.
        python_stages: whether the python backend is served, which has settings of its own.
        memory_flags: of `GpuMemory`; none on a CPU.
    """
    key = secrets.token_hex(16)
    restricted = RESTRICTED if config.local_memory else f"{SHARED_MEMORY},{RESTRICTED}"
    fences = (f"{ALLOW_SHARED_MEMORY}={'true' if config.local_memory else 'false'}", *OPTIONAL_FENCES)
    http = ["--allow-http=false"]
    if config.http_port is not None:
        http = [
            "--allow-http=true",
            f"--http-address={config.local_host}",
            f"--http-port={config.http_port}",
            "--reuse-http-port=false",
            f"--http-restricted-api={SHARED_MEMORY},{RESTRICTED}:auralsam2-key={key}",
        ]
    python = [
        f"--backend-config=python,shm-default-byte-size={config.shm_default_byte_size}",
        f"--backend-config=python,shm-growth-byte-size={config.shm_growth_byte_size}",
        f"--backend-config=python,shm-region-prefix-name={mark}",
    ]
    return [
        os.fspath(program.tritonserver),
        f"--model-repository={config.models}",
        f"--backend-directory={program.backends}",
        "--model-control-mode=none",
        "--exit-on-error=true",
        "--strict-readiness=true",
        "--disable-auto-complete-config",
        "--model-load-retry-count=0",
        *http,
        "--allow-grpc=true",
        f"--grpc-address={config.host if config.socket is None else f'unix:{config.socket}'}",
        f"--grpc-port={config.grpc_port}",
        "--reuse-grpc-port=false",
        "--allow-metrics=true",
        f"--metrics-address={config.local_host}",
        f"--metrics-port={config.metrics_port}",
        f"--grpc-restricted-protocol={restricted}:{NO_HEADER}={key}",
        *_forwarded(config),
        "--grpc-keepalive-time=60000",
        "--grpc-keepalive-timeout=10000",
        "--grpc-max-connection-age=600000",
        # Longer than any call: one that is under way when its connection grows old is still answered.
        "--grpc-max-connection-age-grace=600000",
        "--grpc-infer-response-compression-level=none",
        # A little longer than the launcher waits, so that the launcher has the last word.
        f"--exit-timeout-secs={int(config.drain_timeout_s) + 5}",
        "--log-verbose=0",
        *(fence for fence in fences if fence.split("=")[0] in known),
        *(python if python_stages else []),
        *memory_flags,
    ]


def _forwarded(config: ServerConfig) -> list[str]:
    """What the door says of a call, handed on to the stages; from callers themselves nothing is."""
    if config.socket is None:
        return []
    from model_repository.stage_runtime.callers import CALLER_HEADER, REQUEST_HEADER

    return [f"--grpc-header-forward-pattern=^({CALLER_HEADER}|{REQUEST_HEADER})$"]
