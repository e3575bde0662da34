"""Work on several items at once in threads, results in the order of the items, a bounded number of them in memory."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from auralsam2_client.flow.pace import Pace

Item = TypeVar("Item")
Result = TypeVar("Result")


class Stopped(Exception):
    """The work is called off: nobody waits for its result."""


class Places:
    """The places for clips in flight, shared by threads; their number is that of a `Pace`."""

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        self._changed = threading.Condition()
        self._stopped = threading.Event()
        self._num_taken = 0

    def take(self) -> None:
        """Wait for a free place and take it. Raises: Stopped."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped.is_set() or self._num_taken < self.pace.limit)
            if self._stopped.is_set():
                raise Stopped
            self._num_taken += 1

    def leave(self, *, answered: bool = False) -> None:
        """Give a place back, with or without an answer."""
        with self._changed:
            self._num_taken -= 1
            if answered:
                self.pace.note_answer()
            self._changed.notify_all()

    def leave_refused(self) -> float:
        """Give a place back that the server did not have. Return seconds to wait before the next try."""
        with self._changed:
            self._num_taken -= 1
            pause_s = self.pace.note_refusal()
            self._changed.notify_all()
            return pause_s

    def pause(self, pause_s: float) -> None:
        """Wait, without a place. Raises: Stopped."""
        if self._stopped.wait(pause_s):
            raise Stopped

    def stop(self) -> None:
        """End every wait here, now and later."""
        with self._changed:
            self._stopped.set()
            self._changed.notify_all()


@dataclass(frozen=True)
class _Failure:
    error: BaseException


class _End:
    """Stands where the next item would be."""


class InOrder(Generic[Item, Result]):
    """Iterates over `work(item)` of all items, in their order, `num_workers` at once. For one loop, and to be closed.

    Items are taken by whichever worker is free, one at a time, and only while fewer than `num_ahead` of them are in
    memory: taken and not yet asked for here. An error of an item, or of taking it, is raised in its turn, after the
    results before it; no item is taken after it.

    Args:
        stop: called once at the end, in any case: ends the work that is still under way, so that its threads end.
    """

    def __init__(
        self,
        items: Iterator[Item],
        work: Callable[[Item], Result],
        *,
        num_workers: int,
        num_ahead: int,
        stop: Callable[[], None] = lambda: None,
    ) -> None:
        self._items, self._work, self._num_ahead, self._stop_work = items, work, num_ahead, stop
        self._taking = threading.Lock()
        self._changed = threading.Condition()
        self._done: dict[int, Result | _Failure | _End] = {}
        self._num_taken = self._num_given = 0
        self._ended = False
        # Daemons, so that a loop which was left without being closed does not hold the program at its end.
        self._threads = [
            threading.Thread(target=self._run, name=f"clips-{number}", daemon=True) for number in range(num_workers)
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> "InOrder[Item, Result]":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Result]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._num_given in self._done)
                found = self._done.pop(self._num_given)
                self._num_given += 1
                self._changed.notify_all()
            if isinstance(found, _End):
                return
            if isinstance(found, _Failure):
                raise found.error
            yield found
            del found

    def close(self) -> None:
        """End what is under way, and wait until no thread is left."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._stop_work()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while True:
            with self._taking:
                number, item = self._take()
            if isinstance(item, _End):
                return
            result: Result | _Failure
            try:
                result = item if isinstance(item, _Failure) else self._work(item)
            except BaseException as error:  # noqa: BLE001  (raised where the results are asked for)
                result = _Failure(error)
            del item
            with self._changed:
                self._ended |= isinstance(result, _Failure)
                self._done[number] = result
                self._changed.notify_all()
            del result

    def _take(self) -> tuple[int, Item | _Failure | _End]:
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self._num_taken - self._num_given < self._num_ahead)
            if self._ended:
                return -1, _End()
            number = self._num_taken
            self._num_taken += 1
        try:
            return number, next(self._items)
        except StopIteration:
            end = _End()
            with self._changed:
                self._ended = True
                self._done[number] = end
                self._changed.notify_all()
            return number, end
        except BaseException as error:  # noqa: BLE001
            return number, _Failure(error)
