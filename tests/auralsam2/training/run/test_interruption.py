"""Signals in a run: heard at once outside of a block, after it within one."""

import signal
import threading
from collections.abc import Iterator

import pytest

from auralsam2.training.run.interruption import SIGNALS, hold_signals, ignore_ctrl_c
from tests.auralsam2.training.run.delivered import deliver


@pytest.fixture(autouse=True)
def _handlers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Python's own for Ctrl-C, and one that notes nothing for the other: what a run finds."""
    monkeypatch.setattr(signal, "raise_signal", deliver)
    before = {number: signal.getsignal(number) for number in SIGNALS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_ctrl_c_waits_until_the_block_is_over() -> None:
    seen = list[str]()

    def run() -> None:
        with hold_signals():
            deliver(signal.SIGINT)
            seen.append("the block's rest")
        seen.append("what follows")

    with pytest.raises(KeyboardInterrupt):
        run()
    assert seen == ["the block's rest"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_blocks_may_lie_within_each_other() -> None:
    seen = list[str]()

    def run() -> None:
        with hold_signals():
            with hold_signals():
                deliver(signal.SIGINT)
                seen.append("inner")
            seen.append("outer")

    with pytest.raises(KeyboardInterrupt):
        run()
    assert seen == ["inner", "outer"]


def test_at_the_end_a_second_ctrl_c_changes_nothing() -> None:
    with hold_signals(again=False):
        with hold_signals():
            deliver(signal.SIGINT)
        deliver(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_for_sigterm_is_heard_after_the_block_too() -> None:
    heard = list[int]()
    signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    with hold_signals():
        deliver(signal.SIGTERM)
        assert heard == []
    assert heard == [signal.SIGTERM]


def test_an_error_of_the_block_goes_before_and_handlers_come_back() -> None:
    def run() -> None:
        with hold_signals():
            deliver(signal.SIGINT)
            raise ValueError("own")

    with pytest.raises(ValueError, match="own"):
        run()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_processes_that_are_started_ignore_ctrl_c_and_this_one_does_not() -> None:
    with ignore_ctrl_c():
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_outside_the_main_thread_nothing_is_touched() -> None:
    done = list[bool]()

    def run() -> None:
        with hold_signals(), ignore_ctrl_c():
            done.append(signal.getsignal(signal.SIGINT) is signal.default_int_handler)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert done == [True]
