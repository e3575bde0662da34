"""Keeps the server answering: watches its processes, asks the golden clip again and again, restarts on a fault."""

import contextlib
import signal
import time
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from types import FrameType

from auralsam2_client.contract import BY_SOUND
from auralsam2_client.errors import AuralServeError, ServerUnavailable
from service.builds.golden_answer import WrongAnswer
from service.cards.in_use import CardsInUse
from service.machine.open_files import raise_limit, shortage
from service.server.config import ServerConfig
from service.server.launcher import Launcher
from service.server.ports import PortTaken, check_ports
from service.server.server_process import Sink, to_stderr
from service.supervision.canary import RIGHT, WRONG, Canary
from service.supervision.exporter import Exporter
from service.supervision.restarts import LONGEST_PAUSE_S, Restarts

PORT_PAUSE_S = 1.0
GAVE_UP = 3
INTERRUPTED = 130


@dataclass(frozen=True)
class Restart:
    """One restart: why, by kind and in words, and how long there was no service."""

    kind: str  # process | canary | answer | start
    reason: str
    duration_s: float


class Supervisor:
    """Runs the server until it is told to stop; after too many restarts slowly, or, with `give_up`, no more.

    `run` belongs to one thread (`serve` is `run` with signal handlers, for the main thread); `request_stop` may be
    called from any thread or signal handler; `restarts` and `counts` may be read from anywhere.
    """

    def __init__(self, config: ServerConfig, *, sink: Sink = to_stderr, cards: CardsInUse | None = None) -> None:
        """`cards`: those of this machine; a stand-in in tests."""
        self.config = config
        self._cards = CardsInUse() if cards is None else cards
        self.sink = sink
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

    @property
    def ready(self) -> bool:
        """True while the server is up, its processes and its last canary were well, and it was not told to stop."""
        launcher = self.launcher
        return launcher is not None and launcher.ready and not self._stop_requested

    @property
    def degraded(self) -> str:
        """Why the service is worse than it should be: faults came too often, or nobody can connect; "" otherwise."""
        canary = self._canary
        return self._degraded or (canary.trouble if canary is not None else "")

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

    def serve(self) -> int:
        """Run as `run` does; SIGTERM or SIGINT asks for a gentle stop, a second one for an immediate stop."""
        before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            return self.run()
        except KeyboardInterrupt:
            return INTERRUPTED
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def run(self) -> int:
        """Start, watch, restart; return the exit code: 0 after a requested stop, 3 after too many restarts
        where the config says to give up.

        Raises: what `Launcher.start` raises, when the very first start fails; ConfigError when exporter_port is taken.
        """
        with Exporter(self):
            return self._run()

    def _run(self) -> int:
        drain_s: float | None = 0
        few = shortage(raise_limit())
        if few:
            self._say(f"Warning: {few}")
        try:
            try:
                self._start()
            except ServerUnavailable:
                if self._stop_requested:
                    return 0
                raise
            while not self._stop_requested:
                found = self._fault()
                if found is None:
                    time.sleep(self.config.poll_interval_s)
                elif not self._restart(*found):
                    return 0 if self._stop_requested else GAVE_UP
            self._say("stopping; calls under way are finished first")
            drain_s = None
            return 0
        finally:
            self._end(drain_s)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._stop_requested:
            raise KeyboardInterrupt
        self.request_stop()

    def _say(self, text: str) -> None:
        # A log that cannot be written must not end the service.
        with contextlib.suppress(OSError, ValueError):
            self.sink(f"supervisor: {text}")

    def _start(self, prove: bool = False, suspects: Collection[str] = ()) -> None:
        launcher = Launcher(
            self.config,
            sink=self.sink,
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
        self._canary = Canary(launcher, self._say, self._count)
        if launcher.first_digest:
            told = (
                f"the golden clip took {1e3 * launcher.golden_duration_s:.0f} ms, answer {launcher.first_digest[:12]},"
                f" paths asked: {', '.join(launcher.digests)}"
            )
        else:
            told = (
                f"an earlier start has shown its answer, the golden clip follows in {self.config.canary_interval_s:g} s"
            )
        self._say(f"ready on {self.config.grpc_url}; {told}")

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

    def _fault(self) -> tuple[str, str] | None:
        """(kind, reason) of what is wrong now, or None. Starts and reads the canary on its way."""
        assert self.launcher is not None
        assert self._canary is not None
        self._recover()
        reason = self.launcher.fault()
        return ("process", reason) if reason is not None else self._canary.look()

    def _recover(self) -> None:
        if self._degraded and not self._faults.are_too_many(time.monotonic()):
            self._degraded = ""
            self._say("no longer degraded")

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
            self._say(f"restart {recent} in {pause_s:g} s ({kind}): {reason}")
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
            self.restarts.append(Restart(kind, reason, time.monotonic() - since))
            self._say(f"restored after {time.monotonic() - since:.1f} s; restarts so far: {dict(self.counts)}")
            return True

    def _bear(self, recent: int, reason: str) -> bool:
        """Go on slowly after too many faults, or return False where the config says to give up."""
        config = self.config
        many = f"{recent} faults in {config.restart_window_s:g} s; {config.restart_limit} restarts are allowed"
        advice = "Look at the log above, and run `auralsam2 doctor`"
        if config.give_up:
            self._say(f"gave up: {many}. The last: {reason}. Counts: {dict(self.counts)}. {advice}, then start again.")
            return False
        if not self._degraded:
            self._say(
                f"degraded: {many}, so that pauses grow up to {LONGEST_PAUSE_S:g} s. The last: {reason}. {advice}."
            )
        self._degraded = f"{many}. The last: {reason}"
        return True

    def _start_again(self, prove: bool, suspects: Collection[str]) -> bool:
        """Start, once its ports are free: whoever took one meanwhile is waited for. Return False when told to stop."""
        while True:
            try:
                check_ports(self.config)
                # Something was wrong: the answer has to be shown again.
                self._start(prove, suspects)
            except PortTaken as error:
                if not self._degraded:
                    self._say(f"waiting: {error}")
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
