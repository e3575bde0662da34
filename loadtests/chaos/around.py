"""The service as a process of its own, and what a fault may know of it: its processes, its pages, its ports."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

import psutil

from auralsam2_client.errors import ServerFault, ServerTimeout, ServerUnavailable
from service.monitoring.metrics import read_page, total
from service.server.serving import free_ports

PATIENCE_S = 120.0
STOP_S = 60.0
# Until processes that were told to end have gone from the table.
LEFT_S = 10.0


class Around:
    """`auralsam2 serve` of a build on free ports of loopback; a context manager."""

    def __init__(self, build: Path, log: Path, door: str = "off") -> None:
        self.log, self.door = log, door
        self._pids: set[int] = set()
        self.grpc_port, self.metrics_port, self.exporter_port = free_ports(3)
        self.url = f"127.0.0.1:{self.grpc_port}"
        words: list[object] = [Path(sys.executable).with_name("auralsam2"), "serve", "--build", build]
        words += ["--grpc-port", self.grpc_port, "--metrics-port", self.metrics_port]
        words += ["--exporter-port", self.exporter_port, "--door", door]
        self._command = [str(word) for word in words]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Around":
        self.log.unlink(missing_ok=True)
        with self.log.open("xb") as log:
            # Faults come far more often than in ten minutes of any service.
            environ = {**os.environ, "AURALSAM2_RESTART_LIMIT": "1000"}
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, env=environ)
        self.wait_until_ready()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        with contextlib.suppress(psutil.Error):
            self._pids |= {each.pid for each in psutil.Process(self.pid).children(recursive=True)}
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(STOP_S)

    def leftovers(self) -> list[str]:
        """Name what is left once the block is left, and all that ends has had a moment: processes, shared memory."""
        there = []
        for pid in sorted(self._pids):
            with contextlib.suppress(psutil.NoSuchProcess):
                there.append(psutil.Process(pid))
        _, left = psutil.wait_procs(there, timeout=LEFT_S)
        alive = [f"process {each.pid}" for each in left]
        return alive + [str(path) for path in Path("/dev/shm").glob(f"auralsam2_{self.pid}_*")]

    @property
    def pid(self) -> int:
        """The supervisor's process."""
        assert self._process is not None
        return self._process.pid

    def processes(self, *words: str) -> list[psutil.Process]:
        """Find processes of the service, one of whose words of the command line ends with one of `words`."""
        found = []
        for process in psutil.Process(self.pid).children(recursive=True):
            try:
                line = process.cmdline()
            except psutil.Error:
                continue
            if any(word.endswith(end) for word in line for end in words):
                found.append(process)
        return found

    def page(self) -> str:
        """Read the supervisor's page of metrics. Raises: ServerUnavailable."""
        return read_page(f"http://127.0.0.1:{self.exporter_port}/metrics", timeout_s=5)

    def is_ready(self) -> bool:
        """Tell what the service says of itself."""
        try:
            return total(self.page(), "auralsam2_ready") == 1
        except (ServerUnavailable, ServerFault):
            return False

    def wait_until_ready(self) -> None:
        """Wait until it says ready. Raises: ServerTimeout with the last words of its log; ServerFault when it ended."""
        until = time.monotonic() + PATIENCE_S
        while not self.is_ready():
            assert self._process is not None
            if self._process.poll() is not None or time.monotonic() > until:
                kind = ServerTimeout if self._process.poll() is None else ServerFault
                raise kind(f"The service did not come back: {' | '.join(self.log.read_text().splitlines()[-5:])}")
            time.sleep(0.1)

    def memory_bytes(self) -> float:
        """Add up the resident memory of server and stages."""
        return total(self.page(), "auralsam2_memory_bytes")

    def open_files(self) -> float:
        """Add up the open files of server and stages."""
        return total(self.page(), "auralsam2_open_files")
