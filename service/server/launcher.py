"""One run of the server: prove the build, start the process, wait until its answer is right, end all of it."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO

import psutil

from auralsam2_client.calls.client import Client
from auralsam2_client.contract import GOLDEN_CALLER
from auralsam2_client.errors import AuralServeError, ConfigError, ServerFault, ServerTimeout, ServerUnavailable
from service.builds.golden import Golden, GoldenCall, digest
from service.monitoring.metrics import fetch, in_flight
from service.server import guardian
from service.server.config import ServerConfig
from service.server.launch_plan import make_cache, plan_launch
from service.server.proof import forget, keep, recall

# An idle server takes 2.3 to 2.9 s from SIGTERM to its end.
SHUTDOWN_S = 5.0

Sink = Callable[[str], None]

# What a server says as an error on every machine without a GPU. Where one is needed, nothing of it is noise.
_NOISE = re.compile(r"CUDA|Cuda|NVML|DCGM|pinned")
_CAUSE = re.compile(r"^E\d{4} |^error: |^Traceback|Error: |terminate called")


def to_stderr(line: str) -> None:
    """Print a line of the log on stderr at once."""
    print(line, file=sys.stderr, flush=True)


class Launcher:
    """A server process from start to end; a context manager. Use one for each run.

    Args:
        sink: gets every line of the server's log, from a thread of the launcher's.
        aborted: asked while starting; once it is true, start ends with ServerUnavailable.
        prove: ask the golden clip at start, whatever was proven before.
    """

    def __init__(
        self,
        config: ServerConfig,
        *,
        sink: Sink = to_stderr,
        aborted: Callable[[], bool] = lambda: False,
        prove: bool = False,
    ) -> None:
        self.config = config
        self.prove = prove or config.golden_at_start == "always"
        self.sink = sink
        self.aborted = aborted
        # Names this run's shared memory and marks its processes. Under 40 characters: names of regions are short.
        self.mark = f"auralsam2_{os.getpid()}_{os.urandom(4).hex()}_"
        self.golden: Golden | None = None
        # Of the golden clip's first answer; empty after a start that was proven before.
        self.first_digest = ""
        self.golden_duration_s = 0.0
        self.ready = False
        self._needs_gpu = False
        self._folder: Path | None = None
        self._process: subprocess.Popen[str] | None = None
        self._guardian: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._stages: list[psutil.Process] = []
        self._tail: deque[str] = deque(maxlen=200)

    def __enter__(self) -> "Launcher":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int | None:
        """The server's process id; None before start and after stop."""
        return self._process.pid if self._process is not None else None

    @property
    def stage_pids(self) -> list[int]:
        """The processes of the Python stages, as they were when the server became ready; none where there are none."""
        return [stage.pid for stage in self._stages]

    def start(self) -> None:
        """Start the server and return when it is ready and the golden clip was answered as the build says: now, or at
        an earlier start of the same on this machine (`service.server.proof`).

        Raises:
            ConfigError: build, ports, GPUs or server do not fit, or the golden answer is wrong.
            ServerFault: the server ended by itself or answered with a fault; the message quotes its log.
            ServerTimeout: not ready within ready_timeout_s.
        After an error nothing is left running.
        """
        assert self._process is None, "a launcher starts once"
        deadline = time.monotonic() + self.config.ready_timeout_s
        plan = plan_launch(self.config)
        self.golden = plan.golden
        self._needs_gpu = plan.manifest.needs_gpu
        self._check_ports()
        for note in plan.notes:
            self.sink(note)
        try:
            # The stages look for modules in the server's working folder first, so that is an empty one.
            self._folder = Path(tempfile.mkdtemp(prefix="auralsam2-"))
            (self._folder / "work").mkdir()
            make_cache(self.config, self.sink)
            command, variables = plan.command(self._folder, self.mark)
            self._guardian = subprocess.Popen(
                [sys.executable, "-I", "-S", guardian.__file__, self.mark, str(self._folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            self._process = subprocess.Popen(
                command,
                env=variables,
                cwd=self._folder / "work",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                # A session of its own: Ctrl-C at the terminal reaches only the launcher, which then drains.
                start_new_session=True,
            )
            assert self._process.stdout is not None
            self._reader = threading.Thread(target=self._read_log, args=(self._process.stdout,), daemon=True)
            self._reader.start()
            self._wait_for_port(deadline)
            self._wait_until_it_says_ready(deadline)
            # What an installed server for GPUs depends on, the proof does not know.
            proof = None if self.prove or plan.manifest.needs_gpu else recall(plan)
            if proof is None:
                forget(plan)
                self._wait_for_answer(deadline)
                if not plan.manifest.needs_gpu:
                    keep(plan, self.golden_duration_s)
            else:
                self.golden_duration_s = proof.golden_duration_s
            # Only the python backend has processes of its own; stages of a GPU build live and die with the server.
            if plan.python_stages:
                self._stages = [child for child in self._children() if child.is_running()]
        except BaseException:
            self.stop(drain_s=0)
            raise
        self.ready = True

    def stop(self, drain_s: float | None = None) -> None:
        """End the server: up to drain_s for the calls under way, then SIGTERM, then SIGKILL to all that is left.

        On SIGTERM the server finishes the stage that a clip is in and refuses it the next one, so the calls are waited
        for first. New calls are accepted meanwhile; the last of them may end with ServerUnavailable.
        Nothing stays: no process, no shared memory, no folder. May be called twice.

        Args:
            drain_s: None is the config's drain_timeout_s; 0 kills at once.
        """
        self.ready = False
        drain_s = self.config.drain_timeout_s if drain_s is None else drain_s
        process = self._process
        if process is not None and drain_s > 0 and process.poll() is None:
            drain_until = time.monotonic() + drain_s
            idle = self._wait_until_idle(drain_until)
            process.send_signal(signal.SIGTERM)
            # The server itself waits for sequences that nobody ended, so an idle one is not given all of drain_s.
            drain_s = SHUTDOWN_S if idle else max(SHUTDOWN_S, drain_until - time.monotonic())
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(drain_s)
        left = guardian.reap(self.mark, self._folder)
        if left:
            self.sink(f"Processes {left} of the server could not be ended. Look at them by hand.")
        if process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            if self._reader is not None:
                self._reader.join(5)
            if process.stdout is not None:
                process.stdout.close()
        self._process = None
        self._release_guardian()

    def fault(self) -> str | None:
        """Say what is wrong with the server's processes: ended, gone, or stopped; None when all of them live."""
        process = self._process
        if process is None:
            return "the server was not started"
        code = process.poll()
        if code is not None:
            return f"the server ended with {_exit_text(code)}"
        for what, child in [("the server", psutil.Process(process.pid)), *(("a stage", c) for c in self._stages)]:
            try:
                # A pid that was given to another process counts as gone.
                status = child.status() if child.is_running() else psutil.STATUS_DEAD
            except psutil.NoSuchProcess:
                status = psutil.STATUS_DEAD
            if status in (psutil.STATUS_DEAD, psutil.STATUS_ZOMBIE):
                return f"{what} (process {child.pid}) is gone"
            if status == psutil.STATUS_STOPPED:
                return f"{what} (process {child.pid}) is stopped"
        return None

    def cause(self) -> str:
        """Quote the last errors that the server logged, for a message."""
        lines = [line for line in self._tail if _CAUSE.search(line) and (self._needs_gpu or not _NOISE.search(line))]
        lines = lines or [line for line in self._tail if line.strip()]
        return "\n  ".join(["The server's last words:", *(line[:600] for line in lines[-4:])])

    def _children(self) -> list[psutil.Process]:
        assert self._process is not None
        try:
            children: list[psutil.Process] = psutil.Process(self._process.pid).children()
        except psutil.NoSuchProcess:
            return []
        return children

    def _read_log(self, stream: IO[str]) -> None:
        # The server stops when nobody empties its pipe, so a sink that fails must not end the reading.
        for line in stream:
            self._tail.append(line.rstrip("\n"))
            with contextlib.suppress(OSError, ValueError):
                self.sink(line.rstrip("\n"))

    def _check_ports(self) -> None:
        hosts = {"grpc_port": self.config.host, "metrics_port": self.config.metrics_address}
        for name in ("grpc_port", "metrics_port", "http_port"):
            port = getattr(self.config, name)
            if port is None:
                continue
            with socket.socket() as probe:
                # As the server does itself: connections that only linger from an earlier run are no obstacle.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((hosts.get(name, self.config.local_host), port))
                except OSError as error:
                    flag = "--" + name.replace("_", "-")
                    raise ConfigError(
                        f"Port {port} ({name}) cannot be used: {error.strerror}{_holder(port)}. "
                        f"End that process, or take another port with {flag}."
                    ) from error

    def _check_progress(self, deadline: float, waiting_for: str) -> None:
        assert self._process is not None
        if self.aborted():
            raise ServerUnavailable("The start was broken off.")
        code = self._process.poll()
        if code is not None:
            if self._reader is not None:
                self._reader.join(2)
            raise ServerFault(f"The server ended with {_exit_text(code)} before it was ready. {self.cause()}")
        if time.monotonic() > deadline:
            raise ServerTimeout(
                f"The server was not ready in {self.config.ready_timeout_s:g} s ({waiting_for}). "
                f"Raise ready_timeout_s for a slow machine. {self.cause()}"
            )

    def _wait_for_port(self, deadline: float) -> None:
        # The server opens its ports only after every model is loaded.
        while True:
            self._check_progress(deadline, "its port is still closed")
            with socket.socket() as probe:
                probe.settimeout(1)
                if probe.connect_ex((self.config.own_host, self.config.grpc_port)) == 0:
                    return
            time.sleep(0.05)

    def _wait_until_it_says_ready(self, deadline: float) -> None:
        with Client(self.config.grpc_url, self.config.model, caller=GOLDEN_CALLER) as client:
            while not client.is_ready(timeout_s=5):
                self._check_progress(deadline, "it says that it is not ready")
                time.sleep(0.05)

    def _wait_for_answer(self, deadline: float) -> None:
        assert self.golden is not None
        with Client(self.config.grpc_url, self.config.model, caller=GOLDEN_CALLER) as client:
            call = GoldenCall(self.golden, client, max(1.0, deadline - time.monotonic()))
            while not call.done(within_s=0.1):
                self._check_progress(deadline, "its first answer has not come")
            try:
                reply = call.reply()
            except AuralServeError as error:
                # The process may have died of this very request; that then is the better message.
                time.sleep(0.2)
                self._check_progress(deadline, "its first answer did not come")
                raise type(error)(f"The golden clip got no answer. {error} {self.cause()}") from error
        self.golden.check(reply)
        self.golden_duration_s = call.duration_s
        self.first_digest = digest(reply)

    def _wait_until_idle(self, deadline: float) -> bool:
        """Whether the server was found idle before the deadline."""
        # A clip in the first stage does not show, so the server must look idle for as long as any stage takes.
        settle_s = min(self.golden_duration_s, 2.0)
        idle_since = time.monotonic()
        while time.monotonic() < deadline and self.fault() is None:
            try:
                if in_flight(fetch(self.config.metrics_url, timeout_s=2), self.config.model):
                    idle_since = time.monotonic()
            except (ServerUnavailable, ServerFault):
                return False
            if time.monotonic() - idle_since >= settle_s:
                return True
            time.sleep(0.02)
        return False

    def _release_guardian(self) -> None:
        watcher, self._guardian = self._guardian, None
        if watcher is None:
            return
        assert watcher.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            watcher.stdin.write(b"done")
            watcher.stdin.close()
        watcher.wait(10)


def _exit_text(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _holder(port: int) -> str:
    """Who listens on a port, as far as this user may know."""
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                return f", held by {psutil.Process(connection.pid).name()} (process {connection.pid})"
    except (psutil.Error, OSError):
        pass
    return ""
