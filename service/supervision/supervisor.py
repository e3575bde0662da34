"""Keeps the server answering: watches its processes, asks the golden clip again and again, restarts on a fault."""

import contextlib
import time
from collections import Counter
from collections.abc import Collection

from auralsam2_client.contract import BY_SOUND
from auralsam2_client.errors import AuralServeError, ServerUnavailable
from service.builds.golden_answer import WrongAnswer
from service.cards.in_use import CardsInUse
from service.door.choice import choose_nginx, remark
from service.door.front_door import FrontDoor
from service.door.nginx import Nginx
from service.logs.events import INFO, WARNING, Event, Sink, Tell, as_lines
from service.logs.log import to_stderr
from service.machine.open_files import raise_limit, shortage
from service.server.config import ServerConfig
from service.server.launcher import Launcher
from service.server.ports import PortTaken, check_ports
from service.supervision.announcements import (
    degraded_event,
    gave_up_event,
    ready_event,
    restart_event,
    restored_event,
)
from service.supervision.canary import RIGHT, WRONG, Canary
from service.supervision.exporter import Exporter
from service.supervision.restarts import Restart, Restarts

PORT_PAUSE_S = 1.0
GAVE_UP = 3


class Supervisor:
    """Runs the server until it is told to stop; after too many restarts slowly, or, with `give_up`, no more.

    `run` belongs to one thread (`signals.serve` is `run` with signal handlers, for the main thread); `request_stop` may
    be called from any thread or signal handler; `restarts` and `counts` may be read from anywhere.
    """

    def __init__(
        self,
        config: ServerConfig,
        *,
        sink: Sink = to_stderr,
        tell: Tell | None = None,
        cards: CardsInUse | None = None,
    ) -> None:
        """Prepare to run a server.

        Args:
            sink: takes the lines of the log, where `tell` does not take its events.
            tell: takes every event: of the supervisor, of the server's log, and of each request.
            cards: those of this machine; a stand-in in tests.
        """
        self.config = config
        self._cards = CardsInUse() if cards is None else cards
        self.sink = sink
        self._tell = tell
        self.restarts: list[Restart] = []
        self.counts: Counter[str] = Counter()
        self.launcher: Launcher | None = None
        self.num_damaged_models = 0
        self.golden_answers: Counter[tuple[str, str]] = Counter()
        """Turns of golden requests, by path and result."""
        self._stop_requested = False
        self._faults = Restarts(
            config.restart_limit, config.restart_window_s, config.restart_backoff_s, config.restart_backoff_max_s
        )
        self._canary: Canary | None = None
        self._degraded = ""
        # What the server is started with: with a door, it listens behind it.
        self._behind = config
        self.door: FrontDoor | None = None
        self._nginx: Nginx | None = None

    @property
    def ready(self) -> bool:
        """True while the server is up, its processes and its last canary were well, and it was not told to stop."""
        launcher = self.launcher
        shut = self.door is not None and (bool(self.door.trouble) or not self.door.is_open)
        return launcher is not None and launcher.ready and not shut and not self._stop_requested

    @property
    def degraded(self) -> str:
        """Why the service is worse than it should be: faults came too often, or nobody can connect; "" otherwise."""
        canary = self._canary
        return (
            self._degraded
            or (canary.trouble if canary is not None else "")
            or (self.door.trouble if self.door is not None else "")
        )

    @property
    def server_pid(self) -> int | None:
        """The server's process id; None while there is none."""
        launcher = self.launcher
        return launcher.pid if launcher is not None else None

    @property
    def mark(self) -> str | None:
        """What the run's shared memory is named by; None while there is no server."""
        launcher = self.launcher
        return launcher.mark if launcher is not None else None

    def request_stop(self) -> None:
        """Ask for a gentle stop, from any thread or signal handler."""
        # A plain flag: a lock taken in a signal handler could wait for the very code that it interrupted.
        self._stop_requested = True

    def run(self) -> int:
        """Start, watch, restart; return the exit code: 0 after a requested stop, 3 after too many restarts
        where the config says to give up.

        Raises: what `Launcher.start` raises, when the very first start fails; ConfigError when exporter_port is taken.
        """
        self._nginx = nginx = choose_nginx(self.config)
        with contextlib.ExitStack() as stack:
            if nginx is not None:
                check_ports(self.config, "grpc_port")
                self.door = stack.enter_context(FrontDoor(self.config, nginx, lambda text: self._say("door", text)))
                self._behind = self.door.server
            stack.enter_context(Exporter(self))
            return self._run()

    def _run(self) -> int:
        drain_s: float | None = 0
        few = shortage(raise_limit())
        if few:
            self._say("open_files", f"Warning: {few}", WARNING)
        try:
            try:
                self._start()
            except ServerUnavailable:
                if self._stop_requested:
                    return 0
                raise
            if self.door is not None:
                self.door.open()
            self._say("door", remark(self.config, self._nginx))
            self._greet()
            while not self._stop_requested:
                found = self._fault()
                if found is None:
                    time.sleep(self.config.poll_interval_s)
                elif not self._restart(*found):
                    return 0 if self._stop_requested else GAVE_UP
            self._say("stopping", "stopping; calls under way are finished first")
            drain_s = self._close_door()
            return 0
        finally:
            self._end(drain_s)

    def _close_door(self) -> float:
        """Let no new call in and wait for those under way; return the seconds that the server has left to drain."""
        since = time.monotonic()
        if self.door is not None:
            self.door.close(self.config.drain_timeout_s)
        return max(0.0, self.config.drain_timeout_s - (time.monotonic() - since))

    def _say(self, name: str, text: str, level: str = INFO, **fields: object) -> None:
        self._pass_on(Event(name, text, fields, level))

    def _pass_on(self, event: Event) -> None:
        # A log that cannot be written must not end the service.
        with contextlib.suppress(OSError, ValueError):
            (self._tell or as_lines(self.sink))(event)

    def _start(self, prove: bool = False, suspects: Collection[str] = ()) -> None:
        launcher = Launcher(
            self._behind,
            sink=self.sink,
            tell=self._tell,
            aborted=lambda: self._stop_requested,
            prove=prove,
            suspects=suspects,
            cards=self._cards,
        )
        try:
            launcher.start()
        except WrongAnswer as error:
            self._count(error.path, WRONG)
            raise
        finally:
            self.num_damaged_models += launcher.num_damaged_models
        for path in launcher.digests:
            self._count(path, RIGHT)
        self.launcher = launcher
        self._canary = Canary(launcher, lambda text: self._say("trouble", text, WARNING), self._count)

    def _count(self, path: str, result: str) -> None:
        self.golden_answers[path, result] += 1

    def _end(self, drain_s: float | None) -> None:
        launcher, self.launcher = self.launcher, None
        canary, self._canary = self._canary, None
        try:
            if launcher is not None:
                launcher.stop(drain_s)
        except BaseException:
            # A second signal cuts the draining short.
            assert launcher is not None
            launcher.stop(0)
            raise
        finally:
            if canary is not None:
                canary.close()

    def _greet(self) -> None:
        assert self.launcher is not None
        self._pass_on(ready_event(self.config, self.launcher))

    def _stage_of(self, kind: str) -> str:
        """Of a fault of a process, the stage that it served."""
        return self.launcher.faulty_stage if self.launcher is not None and kind == "process" else ""

    def _fault(self) -> tuple[str, str] | None:
        """(kind, reason) of what is wrong now, or None. Starts and reads the canary on its way."""
        assert self.launcher is not None
        assert self._canary is not None
        self._recover()
        if self.door is not None:
            self.door.look()
        reason = self.launcher.fault()
        return ("process", reason) if reason is not None else self._canary.look()

    def _recover(self) -> None:
        if self._degraded and not self._faults.are_too_many(time.monotonic()):
            self._degraded = ""
            self._say("recovered", "no longer degraded")

    def _restart(self, kind: str, reason: str) -> bool:
        """Restart the server until it works, with growing pauses; return False when it is told to stop, or gives up."""
        since = time.monotonic()
        # An answer that was wrong once leaves nothing proven; a process that died or a path that hung do.
        prove, suspects = kind == "answer", {BY_SOUND}
        if kind == "canary" and self._canary is not None:
            suspects.add(self._canary.path)
        while True:
            self.counts[kind] += 1
            recent = self._faults.note(time.monotonic())
            if self._faults.are_too_many(time.monotonic()) and not self._bear(recent, reason):
                return False
            pause_s = self._faults.pause_s(time.monotonic())
            self._pass_on(restart_event(kind, reason, recent, pause_s, self._stage_of(kind)))
            # What is left of a broken server answers nobody, so it is not drained.
            self._end(drain_s=0)
            if not self._wait(pause_s):
                return False
            try:
                if not self._start_again(prove, suspects):
                    return False
            except AuralServeError as error:
                if self._stop_requested:
                    return False
                kind, reason = "start", str(error)
                continue
            down_s = time.monotonic() - since
            self.restarts.append(Restart(kind, reason, down_s))
            self._pass_on(restored_event(down_s, self.counts))
            self._greet()
            return True

    def _bear(self, recent: int, reason: str) -> bool:
        """Go on slowly after too many faults, or return False where the config says to give up."""
        config = self.config
        many = f"{recent} faults in {config.restart_window_s:g} s; {config.restart_limit} restarts are allowed"
        if config.give_up:
            self._pass_on(gave_up_event(many, reason, self.counts))
            return False
        if not self._degraded:
            self._pass_on(degraded_event(many, reason))
        self._degraded = f"{many}. The last: {reason}"
        return True

    def _start_again(self, prove: bool, suspects: Collection[str]) -> bool:
        """Start, once its ports are free: whoever took one meanwhile is waited for. Return False when told to stop."""
        while True:
            try:
                check_ports(self._behind)
                # Something was wrong: the answer has to be shown again.
                self._start(prove, suspects)
            except PortTaken as error:
                if not self._degraded:
                    self._say("waiting", f"waiting: {error}", WARNING, cause=str(error))
                self._degraded = str(error)
                if not self._wait(PORT_PAUSE_S):
                    return False
            else:
                return True

    def _wait(self, pause_s: float) -> bool:
        """Wait; return False as soon as a stop is asked for."""
        until = time.monotonic() + pause_s
        while time.monotonic() < until and not self._stop_requested:
            time.sleep(min(0.1, self.config.poll_interval_s))
        return not self._stop_requested
