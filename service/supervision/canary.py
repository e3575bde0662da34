"""The golden clip, asked again and again: what its answer, or the lack of one, says about a server that runs.

The server itself does not restart a stage that died, and calls itself ready all the same; only a clip tells.
"""

import contextlib
import time
from collections.abc import Callable

from auralsam2_client.calls.client import Client
from auralsam2_client.calls.local_memory import sweep_server
from auralsam2_client.contract import BUSY, GOLDEN_CALLER
from auralsam2_client.errors import AuralServeError, ConfigError, ServerFault, ServerTimeout, ServerUnavailable
from service.builds.golden import GoldenCall, digest
from service.machine.open_files import is_full
from service.monitoring.metrics import fetch
from service.server.launcher import Launcher

# A heavy model is asked at most a tenth of the time.
SHARE = 10
# A server closes a connection that is ten minutes old by itself, so that one that is full has room again.
FULL_PATIENCE_S = 660.0


class Canary:
    """Asks the golden clip of one launch, whose server is ready. `look` belongs to one thread."""

    def __init__(self, launcher: Launcher, say: Callable[[str], None]) -> None:
        self.trouble = ""
        """Why the clip gets no answer though nothing is broken; empty while it does."""
        self._launcher, self._say = launcher, say
        self._config = launcher.config
        self._client = Client(self._config.grpc_url, self._config.model, caller=GOLDEN_CALLER, secret=launcher.secret)
        self._call: GoldenCall | None = None
        self._golden_duration_s = launcher.golden_duration_s
        self._successes_before = 0
        self._progress_seen = time.monotonic()
        self._schedule()
        if not launcher.first_digest:
            # An earlier start has proven what this one is made of; the clip comes now, while others are served.
            self._due = time.monotonic() + self._config.canary_interval_s

    def close(self) -> None:
        """Close the connection; a call under way ends."""
        self._client.close()

    def look(self) -> tuple[str, str] | None:
        """Send the clip when it is due, or read its answer; return (kind, reason) of what is wrong, or None."""
        if self._call is None:
            if time.monotonic() >= self._due:
                self._send()
            return None
        if not self._call.done(within_s=0):
            return None
        call = self._call
        try:
            reply = call.reply()
        except AuralServeError as error:
            self._schedule()
            return self._judge(error)
        self._golden_duration_s = call.duration_s
        self._progress_seen = time.monotonic()
        self.trouble = ""
        self._schedule()
        found, launcher = digest(reply), self._launcher
        if not launcher.first_digest:
            assert launcher.golden is not None
            try:
                launcher.golden.check(reply)
            except ConfigError as error:
                return "answer", str(error)
            launcher.first_digest = found
        elif found != launcher.first_digest:
            return "answer", f"the golden clip's answer changed: {found[:12]}, was {launcher.first_digest[:12]}"
        return None

    def _schedule(self) -> None:
        self._call = None
        pause_s = max(self._config.canary_interval_s, SHARE * self._golden_duration_s)
        self._due = time.monotonic() + pause_s

    def _send(self) -> None:
        assert self._launcher.golden is not None
        self._successes_before = self._successes() or 0
        if self._config.local_memory:
            # Of clients that were killed; one that the server does not answer now is asked again with the next canary.
            with contextlib.suppress(AuralServeError):
                sweep_server(self._config.grpc_url)
        self._call = GoldenCall(self._launcher.golden, self._client, self._patience_s)

    @property
    def _patience_s(self) -> float:
        return max(self._config.canary_timeout_s, SHARE * self._golden_duration_s)

    def _judge(self, error: AuralServeError) -> tuple[str, str] | None:
        """A server that is only busy answers others meanwhile, and one that is only full lives; a broken one does not.

        The server's processes are known to live: the supervisor looks at them first.
        """
        successes = self._successes()
        progress = successes is not None and successes > self._successes_before
        if progress:
            self._progress_seen = time.monotonic()
        silent_s = time.monotonic() - self._progress_seen
        unreachable = isinstance(error, ServerUnavailable) and error.code is None
        if unreachable or isinstance(error, ServerTimeout):
            pid = self._launcher.pid
            if pid is not None and is_full(pid) and silent_s < FULL_PATIENCE_S:
                self._tell(
                    "full: the server holds as many open files as it may, so that nobody can connect; it is not"
                    " restarted, for connections that idle are closed in ten minutes"
                )
                return None
            if unreachable and progress:
                self._tell(f"busy: the golden clip did not come through, others do ({error})")
                return None
        if isinstance(error, ServerTimeout) or error.code in BUSY:
            if silent_s < self._patience_s:
                self._say(f"busy: the golden clip had to wait ({error})")
                return None
            return "canary", f"no clip was answered in {self._patience_s:.1f} s"
        return "canary", str(error)

    def _tell(self, trouble: str) -> None:
        """Say a trouble that may last, once."""
        if not self.trouble:
            self._say(trouble)
        self.trouble = trouble

    def _successes(self) -> int | None:
        """Clips that the ensemble answered so far; None when the server does not even say that."""
        try:
            counters = fetch(self._config.metrics_url, timeout_s=2).get(self._config.model)
        except (ServerUnavailable, ServerFault):
            return None
        return counters.success if counters is not None else 0
