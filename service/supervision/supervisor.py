"""Keeps the server answering: watches its processes, asks the golden clip again and again, restarts on a fault.

The server itself does not restart a stage that died, and calls itself ready all the same; only a clip tells.
"""

import contextlib
import signal
import time
from collections import Counter, deque
from dataclasses import dataclass
from types import FrameType

from auralsam2_client.calls.client import Client
from auralsam2_client.contract import BUSY, GOLDEN_CALLER
from auralsam2_client.errors import AuralServeError, ConfigError, ServerFault, ServerTimeout, ServerUnavailable
from service.builds.golden import GoldenCall, digest
from service.cards.in_use import CardsInUse
from service.monitoring.metrics import fetch
from service.server.config import ServerConfig
from service.server.launcher import Launcher
from service.server.server_process import Sink, to_stderr
from service.supervision.exporter import Exporter

# A heavy model is asked at most a tenth of the time.
CANARY_SHARE = 10
GAVE_UP = 3
INTERRUPTED = 130


@dataclass(frozen=True)
class Restart:
    """One restart: why, by kind and in words, and how long there was no service."""

    kind: str  # process | canary | answer | start
    reason: str
    duration_s: float


class Supervisor:
    """Runs the server until it is told to stop, or restarts become too many.

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
        self._stop_requested = False
        self._attempts: deque[float] = deque()
        self._client: Client | None = None
        self._canary: GoldenCall | None = None
        self._successes_before = 0
        self._golden_duration_s = 0.0
        self._canary_due = 0.0
        self._progress_seen = 0.0

    @property
    def ready(self) -> bool:
        """True while the server is up, and its processes and its last canary were well."""
        return self.launcher is not None and self.launcher.ready

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
        """Start, watch, restart; return the exit code: 0 after a requested stop, 3 after too many restarts.

        Raises: what `Launcher.start` raises, when the very first start fails; ConfigError when exporter_port is taken.
        """
        with Exporter(self):
            return self._run()

    def _run(self) -> int:
        drain_s: float | None = 0
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

    def _start(self, prove: bool = False) -> None:
        launcher = Launcher(
            self.config, sink=self.sink, aborted=lambda: self._stop_requested, prove=prove, cards=self._cards
        )
        try:
            launcher.start()
        finally:
            self.num_damaged_models += launcher.num_damaged_models
        self.launcher = launcher
        self._client = Client(self.config.grpc_url, self.config.model, caller=GOLDEN_CALLER)
        self._golden_duration_s = launcher.golden_duration_s
        self._progress_seen = time.monotonic()
        self._schedule_canary()
        if launcher.first_digest:
            told = (
                f"the golden clip took {1e3 * launcher.golden_duration_s:.0f} ms, answer {launcher.first_digest[:12]}"
            )
        else:
            # An earlier start has proven what this one is made of; the clip comes now, while others are served.
            self._canary_due = time.monotonic() + self.config.canary_interval_s
            told = (
                f"an earlier start has shown its answer, the golden clip follows in {self.config.canary_interval_s:g} s"
            )
        self._say(f"ready on {self.config.grpc_url}; {told}")

    def _end(self, drain_s: float | None) -> None:
        launcher, self.launcher = self.launcher, None
        client, self._client = self._client, None
        self._canary = None
        try:
            if launcher is not None:
                launcher.stop(drain_s)
        except BaseException:
            # A second signal cuts the draining short.
            assert launcher is not None
            launcher.stop(0)
            raise
        finally:
            if client is not None:
                client.close()

    def _schedule_canary(self) -> None:
        self._canary = None
        pause_s = max(self.config.canary_interval_s, CANARY_SHARE * self._golden_duration_s)
        self._canary_due = time.monotonic() + pause_s

    def _fault(self) -> tuple[str, str] | None:
        """(kind, reason) of what is wrong now, or None. Starts and reads the canary on its way."""
        assert self.launcher is not None
        reason = self.launcher.fault()
        if reason is not None:
            return "process", reason
        if self._canary is None:
            if time.monotonic() >= self._canary_due:
                self._send_canary()
            return None
        if not self._canary.done(within_s=0):
            return None
        canary = self._canary
        try:
            reply = canary.reply()
        except AuralServeError as error:
            self._schedule_canary()
            return self._judge(error)
        self._golden_duration_s = canary.duration_s
        self._progress_seen = time.monotonic()
        self._schedule_canary()
        found = digest(reply)
        if not self.launcher.first_digest:
            assert self.launcher.golden is not None
            try:
                self.launcher.golden.check(reply)
            except ConfigError as error:
                return "answer", str(error)
            self.launcher.first_digest = found
        elif found != self.launcher.first_digest:
            return "answer", f"the golden clip's answer changed: {found[:12]}, was {self.launcher.first_digest[:12]}"
        return None

    def _send_canary(self) -> None:
        assert self.launcher is not None
        assert self.launcher.golden is not None
        assert self._client is not None
        self._successes_before = self._successes() or 0
        self._canary = GoldenCall(self.launcher.golden, self._client, self._patience_s)

    @property
    def _patience_s(self) -> float:
        return max(self.config.canary_timeout_s, CANARY_SHARE * self._golden_duration_s)

    def _judge(self, error: AuralServeError) -> tuple[str, str] | None:
        """A server that is only busy answers others meanwhile; a broken one does not."""
        successes = self._successes()
        if successes is not None and successes > self._successes_before:
            self._progress_seen = time.monotonic()
        if isinstance(error, ServerTimeout) or error.code in BUSY:
            if time.monotonic() - self._progress_seen < self._patience_s:
                self._say(f"busy: the golden clip had to wait ({error})")
                return None
            return "canary", f"no clip was answered in {self._patience_s:.1f} s"
        return "canary", str(error)

    def _successes(self) -> int | None:
        """Clips that the ensemble answered so far; None when the server does not even say that."""
        try:
            counters = fetch(self.config.metrics_url, timeout_s=2).get(self.config.model)
        except (ServerUnavailable, ServerFault):
            return None
        return counters.success if counters is not None else 0

    def _restart(self, kind: str, reason: str) -> bool:
        """Restart the server until it works, with growing pauses; return False when it is time to give up."""
        since = time.monotonic()
        while True:
            self.counts[kind] += 1
            self._attempts.append(time.monotonic())
            while self._attempts[0] < time.monotonic() - self.config.restart_window_s:
                self._attempts.popleft()
            recent = len(self._attempts)
            if recent > self.config.restart_limit:
                self._say(
                    f"gave up: {recent} faults in {self.config.restart_window_s:g} s; "
                    f"{self.config.restart_limit} restarts are allowed. The last: {reason}. "
                    f"Counts: {dict(self.counts)}. Look at the log above, run `auralsam2 doctor`, then start again."
                )
                return False
            self._say(f"restart {recent} of at most {self.config.restart_limit} ({kind}): {reason}")
            # What is left of a broken server answers nobody, so it is not drained.
            self._end(drain_s=0)
            if not self._pause(recent):
                return False
            try:
                # Something was wrong: the answer has to be shown again.
                self._start(prove=True)
            except AuralServeError as error:
                if self._stop_requested:
                    return False
                kind, reason = "start", str(error)
                continue
            self.restarts.append(Restart(kind, reason, time.monotonic() - since))
            self._say(f"restored after {time.monotonic() - since:.1f} s; restarts so far: {dict(self.counts)}")
            return True

    def _pause(self, recent: int) -> bool:
        """Wait before restart number `recent`: not at all before the first, then longer each time."""
        if recent > 1:
            bound = self.config.restart_backoff_s * 2 ** (recent - 2)
            until = time.monotonic() + min(bound, self.config.restart_backoff_max_s)
            while time.monotonic() < until and not self._stop_requested:
                time.sleep(min(0.1, self.config.poll_interval_s))
        return not self._stop_requested
