"""The golden clip, asked again and again: what its answer, or the lack of one, says about a server that runs.

The server itself does not restart a stage that died, and calls itself ready all the same; only a clip tells. It is
asked on one path a turn: by sound, by each mode of prompts, in a session, and from the beginning.
"""

import contextlib
import time
from collections import Counter
from collections.abc import Callable

from auralsam2_client.calls.client import Client
from auralsam2_client.calls.frame_wire import RAW
from auralsam2_client.calls.local_memory import sweep_server
from auralsam2_client.contract import BUSY, BY_SOUND, GOLDEN_CALLER, Reason
from auralsam2_client.errors import AuralServeError, ServerFault, ServerTimeout, ServerUnavailable
from service.builds.golden_answer import WrongAnswer
from service.builds.golden_call import GoldenCall
from service.builds.golden_request import GoldenRequest, digest
from service.machine.open_files import is_full
from service.monitoring.metrics import fetch, read_page
from service.server.launcher import Launcher
from service.supervision.session_room import SessionRoom

# A heavy model is asked at most a tenth of the time.
SHARE = 10
# A server closes a connection that is ten minutes old by itself, so that one that is full has room again.
FULL_PATIENCE_S = 660.0
# A path that misses so many of its turns in a row, while all others are answered, hangs by itself.
MISSED_TURNS = 3
RIGHT, WRONG, NONE = RESULTS = ("right", "wrong", "none")
"""What a turn came to: the answer, another one, or no answer where there had to be one."""


class Canary:
    """Asks the golden clip of one launch, whose server is ready. `look` belongs to one thread."""

    def __init__(
        self,
        launcher: Launcher,
        say: Callable[[str], None],
        count: Callable[[str, str], None] = lambda path, result: None,
    ) -> None:
        """`count`: is told the path and the result of every turn, one of RESULTS."""
        self.trouble = ""
        """Why the clip gets no answer though nothing is broken; empty while it does."""
        self.path = ""
        """The path that was asked last."""
        self._launcher, self._say, self._count = launcher, say, count
        self._config = launcher.config
        url, model = self._config.grpc_url, self._config.model
        self._client = Client(url, model, wire=RAW, caller=GOLDEN_CALLER, secret=launcher.secret)
        self._room: SessionRoom | None = None
        self._call: GoldenCall | None = None
        self._turn = 0
        self._missed = Counter[str]()
        # Paths that missed a turn, and beside which another was answered since.
        self._passed_over: set[str] = set()
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
            replies = call.replies()
        except AuralServeError as error:
            self._schedule()
            found = self._judge(error)
            if found is not None:
                self._count(self.path, NONE)
            return found
        self._golden_duration_s = call.duration_s
        self._progress_seen = time.monotonic()
        self.trouble, self._missed[self.path] = "", 0
        self._passed_over |= {path for path, num in self._missed.items() if num}
        self._passed_over.discard(self.path)
        self._schedule()
        wrong = self._compare(call.request, digest(replies), lambda: call.request.check(replies))
        self._count(self.path, RIGHT if wrong is None else WRONG)
        return None if wrong is None else ("answer", wrong)

    def _compare(self, request: GoldenRequest, found: str, check: Callable[[], object]) -> str | None:
        """Say what is wrong with an answer: the first on its path is held to the build's, later ones to the first."""
        before = self._launcher.digests.get(request.path)
        if before is None:
            try:
                check()
            except WrongAnswer as error:
                return str(error)
            self._launcher.digests[request.path] = found
        elif found != before:
            return f"the golden clip's answer by {request.path} changed: {found[:12]}, was {before[:12]}"
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
        request = self._next()
        self.path = request.path
        self._call = GoldenCall(request, self._client, self._patience_s)

    def _next(self) -> GoldenRequest:
        """Take the next path in turn. Where a session would push out a caller's, its turn is left out."""
        assert self._launcher.golden is not None
        requests = self._launcher.golden.requests
        for _ in requests:
            request = requests[self._turn % len(requests)]
            self._turn += 1
            if not request.in_session or self._has_room():
                break
        return request

    def _has_room(self) -> bool:
        if self._room is None:
            self._room = SessionRoom(self._config)
        try:
            return self._room.is_there(read_page(self._config.metrics_url, timeout_s=2))
        except (ServerUnavailable, ServerFault):
            return True

    @property
    def _patience_s(self) -> float:
        return max(self._config.canary_timeout_s, SHARE * self._golden_duration_s)

    def _judge(self, error: AuralServeError) -> tuple[str, str] | None:
        """A server that is only busy answers others meanwhile, and one that is only full lives; a broken one does not.

        A path that hangs by itself is told from one that had to wait by the others, which are answered.

        The server's processes are known to live: the supervisor looks at them first.
        """
        if error.code is Reason.SESSION_LIMIT:
            self._say("busy: callers hold all sessions, so that the golden one had to wait")
            return None
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
        if isinstance(error, ServerTimeout):
            self._missed[self.path] += 1
            # Paths that share a graph hang together; of a server that is only busy the one by sound misses turns too.
            heard = self.path == BY_SOUND or not self._missed[BY_SOUND]
            if self._missed[self.path] >= MISSED_TURNS and heard and self.path in self._passed_over:
                return "canary", f"the golden clip by {self.path} got no answer in {MISSED_TURNS} turns, others did"
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
