"""The processes of one run: the server, its stages, and the guardian that ends them should this process be killed.

Its log is read here too: every line goes to the sink, the last ones are kept, so that a message can quote them.
"""

import contextlib
import resource
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import psutil

from auralsam2_client.contract import SECRET_VARIABLE, closing_path
from service.logs.events import ERROR, WARNING, Event, Tell
from service.logs.server_lines import ServerLines
from service.machine.repeated_lines import RepeatedLines, read_lines
from service.server import guardian
from service.server.stage_process import StageProcess, find_stages

# A process that is stopped for less, by a debugger, a snapshot or a person, goes on as if nothing had been. The server
# itself takes a stage that is silent for a second for a dead one.
STOPPED_PATIENCE_S = 1.0


class ServerProcess:
    """One server and what belongs to it. Starts once.

    Args:
        mark: names the run's shared memory and marks its processes.
        tell: gets every line of the log as an event, from a thread of its own.
    """

    def __init__(self, mark: str, tell: Tell) -> None:
        self.mark, self.tell = mark, tell
        # By it the stages know what the service itself asks.
        self.secret = secrets.token_hex(16)
        self.folder: Path | None = None
        self.stages: list[StageProcess] = []
        self.faulty_stage = ""
        """The stage that the last `fault` was about, by name; "" where it was about none."""
        self._stopped_since: dict[int, float] = {}
        self._lines = ServerLines(needs_gpu=True)
        self._process: subprocess.Popen[str] | None = None
        self._guardian: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._tail: deque[Event] = deque(maxlen=200)

    @property
    def pid(self) -> int | None:
        """The server's process id; None before `start` and after `end`."""
        return self._process.pid if self._process is not None else None

    @property
    def exit_code(self) -> int | None:
        """What the server ended with, negative for a signal; None while it lives, before `start` and after `end`."""
        return self._process.poll() if self._process is not None else None

    def make_folder(self) -> Path:
        """Make the folder of the run, which `end` removes."""
        self.folder = Path(tempfile.mkdtemp(prefix="auralsam2-"))
        # The stages look for modules in the server's working folder first, so that is an empty one.
        (self.folder / "work").mkdir()
        return self.folder

    def start(self, command: Sequence[str], variables: Mapping[str, str], *, needs_gpu: bool) -> None:
        """Start the guardian, the server and the reading of its log. `make_folder` comes first."""
        assert self._process is None, "a server process starts once"
        assert self.folder is not None
        self._lines = ServerLines(needs_gpu=needs_gpu)
        self._guardian = self._start_guardian()
        self._process = subprocess.Popen(
            command,
            env={**variables, SECRET_VARIABLE: self.secret},
            cwd=self.folder / "work",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            # What it makes is for this user alone. Its shared memory takes no notice, see `close_shared_memory`.
            umask=0o077,
            # Python ignores SIGXFSZ, and so must the server: what passes `bound_shared_memory` fails, and ends nothing.
            restore_signals=False,
            # A session of its own: Ctrl-C at the terminal reaches only the launcher, which then drains.
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self._reader = threading.Thread(target=self._read_log, args=(self._process.stdout,), daemon=True)
        self._reader.start()

    def _start_guardian(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", guardian.__file__, self.mark, str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def renew_guardian(self) -> None:
        """Start the guardian again where it has ended: without it, a launcher that is killed leaves its server."""
        watcher = self._guardian
        if watcher is None or watcher.poll() is None:
            return
        how = describe_exit(watcher.returncode)
        self._tell(Event("guardian", f"the guardian ended with {how}; it is started again", {"cause": how}, WARNING))
        assert watcher.stdin is not None
        watcher.stdin.close()
        try:
            self._guardian = self._start_guardian()
        except OSError as error:
            # The ended one stays, so that the next look tries again.
            words = f"the guardian cannot be started: {error.strerror}"
            self._tell(Event("guardian", words, {"cause": str(error.strerror)}, ERROR))

    def close_shared_memory(self) -> None:
        """Let this user alone read and write the run's shared memory, in which callers' frames lie.

        The server makes it readable by everybody, whatever its umask. Called again and again while it starts, so that
        it is closed before a caller's first clip.
        """
        for path in guardian.shared_memory_of(self.mark):
            with contextlib.suppress(OSError):
                if path.stat().st_mode & 0o077:
                    path.chmod(0o600)

    def close_admission(self) -> None:
        """Have the stages refuse new clips and rounds from now on; those that they let in go their way."""
        with contextlib.suppress(OSError):
            closing_path(self.mark).touch(0o600)

    def bound_shared_memory(self, limit_bytes: int) -> None:
        """Let no stage's region grow beyond a size: the server refuses the request that would, and goes on.

        By the limit of file sizes, and of the server's own process alone, which makes the room for what comes in. The
        stages, which write what they compiled, live by then and keep theirs.
        """
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError, PermissionError):
            _, hard = resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE)
            limit = limit_bytes if hard == resource.RLIM_INFINITY else min(limit_bytes, hard)
            resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE, (limit, hard))

    def find_stages(self) -> None:
        """Take the server's children that live now as its stages, which `fault` watches from now on."""
        assert self._process is not None
        self.stages = find_stages(self._process.pid)

    def fault(self) -> str | None:
        """Say what is wrong with the processes: ended, gone, or stopped for long; None when all of them live."""
        self.faulty_stage = ""
        process = self._process
        if process is None:
            return "the server was not started"
        code = process.poll()
        if code is not None:
            return f"the server ended with {describe_exit(code)}"
        own = StageProcess("", psutil.Process(process.pid))
        for part, child in ((each, each.process) for each in (own, *self.stages)):
            try:
                # A pid that was given to another process counts as gone.
                status = child.status() if child.is_running() else psutil.STATUS_DEAD
            except psutil.NoSuchProcess:
                status = psutil.STATUS_DEAD
            if status in (psutil.STATUS_DEAD, psutil.STATUS_ZOMBIE):
                how = "gone"
            elif self._stopped_s(child.pid, status == psutil.STATUS_STOPPED) >= STOPPED_PATIENCE_S:
                how = "stopped"
            else:
                continue
            self.faulty_stage = part.name
            return f"{part.title} (process {child.pid}) is {how}"
        return None

    def _stopped_s(self, pid: int, stopped: bool) -> float:
        """Tell for how long a process has been found stopped at every look."""
        if not stopped:
            self._stopped_since.pop(pid, None)
            return 0.0
        now = time.monotonic()
        return now - self._stopped_since.setdefault(pid, now)

    def quote_errors(self) -> str:
        """Quote the last errors that the server logged, for a message."""
        if self.exit_code is not None and self._reader is not None:
            self._reader.join(2)  # what it said last may still lie in the pipe
        told = list(self._tail)
        lines = [event.message for event in told if event.level == ERROR and not event.quiet]
        lines = lines or [event.message for event in told if event.message.strip()]
        return "\n  ".join(["The server's last words:", *(line[:600] for line in lines[-4:])])

    def terminate(self, patience_s: float) -> None:
        """Send SIGTERM and wait up to `patience_s` for the server to end."""
        process = self._process
        if process is not None:
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(patience_s)

    def end(self) -> None:
        """Kill what is left. Nothing stays: no process, no shared memory, no folder. May be called twice."""
        left = guardian.reap(self.mark, self.folder)
        if left:
            words = f"Processes {left} of the server could not be ended. Look at them by hand."
            self._tell(Event("left", words, {"processes": left}, ERROR))
        process = self._process
        if process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            if self._reader is not None:
                self._reader.join(5)
            if process.stdout is not None:
                process.stdout.close()
        self._process = None
        self._release_guardian()

    def _read_log(self, stream: IO[str]) -> None:
        lines = RepeatedLines(self._keep)
        for line in read_lines(stream):
            lines(line)
        lines.flush()

    def _keep(self, line: str) -> None:
        event = self._lines.event(line)
        self._tail.append(event)
        self._tell(event)

    def _tell(self, event: Event) -> None:
        # The server stops when nobody empties its pipe, so a log that fails must not end the reading.
        with contextlib.suppress(OSError, ValueError):
            self.tell(event)

    def _release_guardian(self) -> None:
        watcher, self._guardian = self._guardian, None
        if watcher is None:
            return
        assert watcher.stdin is not None
        # One that ended by itself may have been given up on, its pipe closed.
        with contextlib.suppress(BrokenPipeError, ValueError):
            watcher.stdin.write(b"done")
            watcher.stdin.close()
        watcher.wait(10)


def describe_exit(code: int) -> str:
    """Describe how a process ended, by its exit code as `subprocess` gives it."""
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
