"""Work on several items at once in one asyncio loop: what `flow.threads` is for threads."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from typing import Any, TypeVar

from auralsam2_client.flow.pace import Pace

Item = TypeVar("Item")
Result = TypeVar("Result")


class AsyncPlaces:
    """The places for clips in flight of one loop; their number is that of a `Pace`."""

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        self._changed = asyncio.Condition()
        self._num_taken = 0

    async def take(self) -> None:
        """Wait for a free place and take it."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._num_taken < self.pace.limit)
            self._num_taken += 1

    async def leave(self, *, answered: bool = False) -> None:
        """Give a place back, with or without an answer."""
        self._num_taken -= 1
        if answered:
            self.pace.note_answer()
        async with self._changed:
            self._changed.notify_all()

    async def leave_refused(self) -> float:
        """Give a place back that the server did not have. Return seconds to wait before the next try."""
        pause_s = self.pace.note_refusal()
        await self.leave()
        return pause_s


async def in_order(
    items: Iterator[Item], work: Callable[[Item], Awaitable[Result]], *, num_ahead: int
) -> AsyncGenerator[Result, None]:
    """Give `work(item)` of all items, in their order, while `num_ahead` of them are worked on.

    The next item is taken in a thread, one at a time, so that the loop goes on. An error is raised in the turn of its
    item. Closing the generator (`contextlib.aclosing`) cancels what is under way.
    """
    reading, no_more = asyncio.Lock(), object()

    async def run() -> Any:
        # The lock is given in the order in which it was asked for, which is that of the tasks.
        async with reading:
            item = await asyncio.to_thread(next, items, no_more)
        return no_more if item is no_more else await work(item)  # type: ignore[arg-type]

    pending = deque(asyncio.ensure_future(run()) for _ in range(num_ahead))
    try:
        while pending:
            result = await pending[0]
            pending.popleft()
            if result is no_more:
                return
            pending.append(asyncio.ensure_future(run()))
            yield result
            del result
    finally:
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
