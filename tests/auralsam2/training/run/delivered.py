"""Signals for tests: the handler that is set is called, as the interpreter would.

No signal is sent: libraries of other tests put handlers of their own beneath the interpreter's, which end the process.
"""

import signal


def deliver(number: int) -> None:
    """Call what handles a signal in this process."""
    handler = signal.getsignal(number)
    assert callable(handler), handler
    handler(number, None)
