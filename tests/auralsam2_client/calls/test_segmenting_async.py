"""A whole video with several clips in flight for asyncio, by a stand-in client."""

import asyncio
from contextlib import aclosing
from typing import Any, Self

import numpy as np
import pytest
from numpy.typing import NDArray

from auralsam2_client.calls.segmentation import Segmentation
from auralsam2_client.calls.segmenting_async import segment_clips_async
from auralsam2_client.contract import Reason
from auralsam2_client.errors import ServerUnavailable
from auralsam2_client.flow import deadline, pace
from auralsam2_client.media.clips import cut_clips
from tests.auralsam2_client.calls.test_segmenting import T, answer_to, video


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses take no time here."""
    monkeypatch.setattr(pace, "PAUSE_BASE_S", 0.0)
    monkeypatch.setattr(deadline, "RETRY_CAP_S", 0.0)


class AsyncStandIn:
    """As `StandIn`, for asyncio. Clip 0 is answered after clip 1, clip 2 is refused once, and at 50 nobody is there."""

    timeout_s, retries = 60.0, 0

    def __init__(self) -> None:
        self.inside = self.most = self.num_cancelled = 0
        self.asked: list[int] = []
        self.overtaking, self.for_ever = asyncio.Event(), asyncio.Event()

    def own_channel(self) -> Self:
        return self

    async def num_frames(self) -> int:
        return T

    async def close(self) -> None:
        pass

    async def segment(self, frames: NDArray[np.uint8], audio: object, **asked: Any) -> Segmentation:
        number = int(frames[0, 0, 0, 0]) // T
        self.asked.append(number)
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            if number == 0:
                await self.overtaking.wait()
            self.overtaking.set()
            if number == 2 and self.asked.count(2) == 1:
                raise ServerUnavailable("no room", code=Reason.QUEUE_FULL)
            if number == 40:
                await self.for_ever.wait()
            if number == 50 and self.asked.count(50) < 4:
                raise ServerUnavailable("nobody there")
        except asyncio.CancelledError:
            self.num_cancelled += 1
            raise
        finally:
            self.inside -= 1
        return answer_to(frames, 1.0)


def test_the_asyncio_client_keeps_order_bounds_and_refusals_too() -> None:
    async def main() -> tuple[AsyncStandIn, list[float]]:
        client: Any = AsyncStandIn()
        scores = []
        async with aclosing(segment_clips_async(client, video(9), in_flight=2)) as segmented:
            async for clip in segmented:
                scores += [8 * frame.object_score for frame in clip.results]
        return client, scores

    client, scores = asyncio.run(main())
    assert scores == list(range(9))
    assert sorted(client.asked) == [0, 1, 2, 2, 3, 4]
    assert client.most == 2


def test_an_asyncio_loop_that_ends_early_cancels_what_is_under_way() -> None:
    stand_in: list[AsyncStandIn] = []

    async def main() -> None:
        stand_in.append(AsyncStandIn())
        client: Any = stand_in[0]
        async with aclosing(segment_clips_async(client, video(2 * 60))) as segmented:
            async for clip in segmented:
                if clip.clip.first == 2 * 39:
                    while 40 not in client.asked:
                        await asyncio.sleep(0)
                    break
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())
    (client,) = stand_in
    assert (client.num_cancelled, client.inside) == (1, 0)


def test_an_asyncio_loop_waits_for_a_server_that_answered_before() -> None:
    async def main() -> list[int]:
        client: Any = AsyncStandIn()
        source = [clip for clip in cut_clips(video(2 * 60), T) if clip.first >= 2 * 45]
        async with aclosing(segment_clips_async(client, source)) as segmented:
            return [clip.clip.first // T async for clip in segmented]

    assert asyncio.run(main()) == list(range(45, 60))
