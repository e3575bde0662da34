"""A golden request on its way, in a thread, so that the caller can watch the server's processes meanwhile."""

import threading
import time

from auralsam2_client.calls.client import Client
from auralsam2_client.calls.wire import Arrays
from auralsam2_client.errors import AuralServeError, ServerFault
from service.builds.golden_request import GoldenRequest


class GoldenCall:
    """One golden request under way. It ends by itself: with the replies, an error, or its time."""

    def __init__(self, request: GoldenRequest, client: Client, timeout_s: float) -> None:
        self.request = request
        self.duration_s = 0.0
        self._replies: tuple[Arrays, ...] | None = None
        self._error: AuralServeError | None = None
        self._thread = threading.Thread(target=self._run, args=(client, timeout_s), daemon=True)
        self._thread.start()

    def done(self, within_s: float) -> bool:
        """Tell whether the call has ended, with replies or an error."""
        self._thread.join(within_s)
        return not self._thread.is_alive()

    def replies(self) -> tuple[Arrays, ...]:
        """Return the replies of a call that is done, one a round. Raises: what the call met."""
        if self._error is not None:
            raise self._error
        assert self._replies is not None, "ask done() first"
        return self._replies

    def _run(self, client: Client, timeout_s: float) -> None:
        started = time.monotonic()
        try:
            self._replies = self.request.ask(client, timeout_s)
        except AuralServeError as error:
            self._error = error
        except Exception as error:  # noqa: BLE001 - a thread's error would be lost, and the caller would wait for ever
            self._error = ServerFault(f"The golden clip could not be sent: {error!r}. This is a bug of the client.")
        self.duration_s = time.monotonic() - started
