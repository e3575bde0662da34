"""Helpers of the tests that run the toy build on the real server."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from service.monitoring.metrics import ModelCounters, fetch
from service.server.config import ServerConfig
from service.server.launcher import Launcher
from service.server.serving import free_ports


def toy_config(build: Path, **changed: Any) -> ServerConfig:
    grpc_port, metrics_port = free_ports(2)
    settings = {
        "grpc_port": grpc_port,
        "metrics_port": metrics_port,
        "ready_timeout_s": 60,
        "drain_timeout_s": 10,
        "poll_interval_s": 0.1,
        "canary_interval_s": 0.5,
        "canary_timeout_s": 2,
        "restart_backoff_s": 0.1,
    }
    return ServerConfig(build=build, **{**settings, **changed})


def eventually(condition: Callable[[], Any], within_s: float = 30) -> Any:
    """The first true value of a condition; fails the test when none comes."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"not so after {within_s} s: {condition}")


def settled_counters(metrics_url: str) -> dict[str, ModelCounters]:
    """The server's counters once they stand still: it counts a request a moment after the answer is sent."""
    earlier: dict[str, ModelCounters] = {}

    def still() -> dict[str, ModelCounters] | None:
        nonlocal earlier
        earlier, before = fetch(metrics_url), earlier
        time.sleep(0.2)
        return earlier if earlier == before else None

    found: dict[str, ModelCounters] = eventually(still)
    return found


def stage_processes(launcher: Launcher, name: str) -> list[int]:
    """The processes that serve a Python stage."""
    return [pid for pid in launcher.stage_pids if f"/{name}/1/model.py" in " ".join(psutil.Process(pid).cmdline())]


def stop_process(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)


def kill_process(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
