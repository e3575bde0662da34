"""The door as a process: nginx, started, watched, started again where it ends, and shut before the server stops."""

import contextlib
import os
import shutil
import signal
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

import grpc
from tritonclient.grpc import service_pb2

from auralsam2_client.calls.wire import CHANNEL_OPTIONS
from auralsam2_client.errors import ConfigError
from service.door import keeper
from service.door.call_log import CallLog
from service.door.configuration import CHECK_SOCKET, CONFIGURATION, SERVER_SOCKET, STATUS_SOCKET, Door, is_plain, render
from service.door.nginx import Nginx
from service.door.requests import METHODS, largest_message
from service.machine.open_files import limit
from service.machine.repeated_lines import RepeatedLines, read_lines
from service.server.config import MAX_SOCKET_NAME, ServerConfig
from service.server.ports import PortTaken, check_ports

_START_S, _CHECK_S = 10.0, 5.0
# Looks through the door that may fail, one after the other, before it is started again.
PATIENCE = 3
_LIVE = next(name for name in METHODS if name.endswith("ServerLive"))

_FOLDER = "auralsam2-door-"


def _make_folder(grpc_port: int) -> Path:
    """Make a folder of the door's own, among temporary files; in shared memory where a socket's name were too long."""
    folder = Path(tempfile.mkdtemp(prefix=_FOLDER))
    if len(f"{folder / SERVER_SOCKET}:{grpc_port}") <= MAX_SOCKET_NAME:
        return folder
    folder.rmdir()
    return Path(tempfile.mkdtemp(prefix=_FOLDER, dir="/dev/shm"))


class FrontDoor:
    """One door from start to end; a context manager, which leaves nothing behind. For one thread.

    Args:
        config: of the whole service, where callers come; `server` is that of the server behind.
        say: gets lines for the log.
    """

    def __init__(self, config: ServerConfig, nginx: Nginx, say: Callable[[str], None]) -> None:
        from model_repository.stage_runtime.callers import CALLER_HEADER, REQUEST_HEADER

        for path in (config.tls_certificate, config.tls_key, config.tls_client_ca, config.access_log):
            if path is not None and not is_plain(path):
                raise ConfigError(f"{path} has characters that nginx cannot be told. Name a plainer path.")
        self.folder = _make_folder(config.grpc_port)
        try:
            self.door = Door(
                config,
                nginx,
                self.folder,
                largest_message(config.models, config.model),
                CALLER_HEADER,
                REQUEST_HEADER,
                limit(),
            )
            self.server = self.door.server
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        self.trouble = ""
        """What is wrong with the door; "" while it is open."""
        self.num_restarts = 0
        self.calls = CallLog(self.door.access_log, self.door.methods, lambda: self._signal(signal.SIGUSR1))
        self._say = say
        self._process: subprocess.Popen[str] | None = None
        self._keeper: subprocess.Popen[bytes] | None = None
        self._tail: deque[str] = deque(maxlen=8)
        self._channel: grpc.Channel | None = None
        self._question: grpc.Future | None = None
        self._next_look = 0.0
        self._failed = 0

    def __enter__(self) -> "FrontDoor":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()
        self.calls.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def pid(self) -> int | None:
        """nginx's first process; None while there is none."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    @property
    def is_open(self) -> bool:
        """True from the moment at which nginx listens, until it is found gone."""
        return self._channel is not None

    @property
    def status_socket(self) -> Path:
        """Where nginx tells of its connections."""
        return self.folder / STATUS_SOCKET

    def open(self) -> None:
        """Open the door. Raises: PortTaken; ConfigError with nginx's own words when it does not start."""
        check_ports(self.door.config, "grpc_port")
        (self.folder / "temporary").mkdir(exist_ok=True)
        link = self.folder / f"{SERVER_SOCKET}-link"
        link.unlink(missing_ok=True)
        link.symlink_to(str(self.server.socket_file))
        (self.folder / CONFIGURATION).write_text(render(self.door))
        # nginx takes the name of a socket that is left for a taken one.
        for name in (CHECK_SOCKET, STATUS_SOCKET):
            (self.folder / name).unlink(missing_ok=True)
        self._tail.clear()
        self._process = subprocess.Popen(
            self.door.command,
            cwd=self.folder,
            env={name: os.environ[name] for name in ("PATH", "TZ", "LD_LIBRARY_PATH") if name in os.environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            umask=0o077,
            # A group of its own, with all that nginx starts; and Ctrl-C is the service's to answer.
            start_new_session=True,
        )
        self._keeper = subprocess.Popen(
            [sys.executable, "-I", "-S", keeper.__file__, str(self._process.pid), str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert self._process.stderr is not None
        threading.Thread(target=self._read_errors, args=(self._process.stderr,), daemon=True).start()
        try:
            self._wait_until_open(self._process)
        except BaseException:
            self._end()
            raise
        self.trouble = ""
        self._failed = 0
        self._schedule()
        self._channel = grpc.insecure_channel(self.door.check_url, options=CHANNEL_OPTIONS)

    def look(self) -> None:
        """Read the log of calls; start nginx again where it has ended, or lets nothing through."""
        self.calls.look()
        if self.pid is None:
            self._open_again("nginx has ended")
        elif self._channel is not None and self._lets_nothing_through(self._channel):
            self._open_again(f"nothing came through in {PATIENCE} looks of {_CHECK_S:g} s")

    def close(self, within_s: float) -> bool:
        """Take no new calls, let those under way end, and tell whether they did within `within_s` seconds."""
        process = self._process
        if process is None:
            return True
        self._forget_channel()
        self._signal(signal.SIGQUIT)
        deadline = time.monotonic() + within_s
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        return process.poll() is not None

    def _lets_nothing_through(self, channel: grpc.Channel) -> bool:
        """Ask the server behind whether it lives, as callers do, and read the answer at a later look."""
        if self._question is None:
            if time.monotonic() >= self._next_look:
                ask = channel.unary_unary(
                    _LIVE,
                    request_serializer=service_pb2.ServerLiveRequest.SerializeToString,
                    response_deserializer=service_pb2.ServerLiveResponse.FromString,
                )
                self._question = ask.future(service_pb2.ServerLiveRequest(), timeout=_CHECK_S)
            return False
        if not self._question.done():
            return False
        self._failed = 0 if self._question.exception() is None else self._failed + 1
        self._question = None
        self._schedule()
        return self._failed >= PATIENCE

    def _schedule(self) -> None:
        self._next_look = time.monotonic() + self.door.config.canary_interval_s

    def _open_again(self, why: str) -> None:
        if not self.trouble:
            self._say(f"the front door is opened again: {why}. {' '.join(self._tail)}".rstrip())
        self._end()
        try:
            self.open()
        except (ConfigError, OSError) as error:
            if not self.trouble or isinstance(error, PortTaken) != self.trouble.startswith("Port"):
                self._say(f"the front door stays shut: {error}")
            self.trouble = str(error)
        else:
            self.num_restarts += 1
            self._say("the front door is open")

    def _wait_until_open(self, process: subprocess.Popen[str]) -> None:
        deadline = time.monotonic() + _START_S
        while process.poll() is None and time.monotonic() < deadline:
            if (self.folder / CHECK_SOCKET).exists() and (self.folder / "nginx.pid").exists():
                return
            time.sleep(0.01)
        time.sleep(0.05)  # what it said last may still lie in the pipe
        told = " ".join(self._tail) or "it says nothing"
        raise ConfigError(f"nginx did not open the front door: {told}. Run `auralsam2 doctor`.")

    def _signal(self, number: int) -> None:
        process = self._process
        if process is not None and process.poll() is None:
            process.send_signal(number)

    def _forget_channel(self) -> None:
        channel, self._channel, self._question = self._channel, None, None
        if channel is not None:
            channel.close()

    def _end(self) -> None:
        """End all of nginx at once. May be called twice."""
        self._forget_channel()
        process, self._process = self._process, None
        if process is not None:
            keeper.end_group(process.pid)
            process.wait(10)
        watcher, self._keeper = self._keeper, None
        if watcher is not None:
            assert watcher.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                watcher.stdin.write(b"done")
                watcher.stdin.close()
            watcher.wait(10)

    def _read_errors(self, stream: IO[str]) -> None:
        def keep(line: str) -> None:
            self._tail.append(line)
            self._say(f"door: {line}")

        with stream:
            lines = RepeatedLines(keep)
            for line in read_lines(stream):
                lines(line)
            lines.flush()
