"""A whole video clip by clip for asyncio: the same clips, the same pace and the same results as `segmenting`."""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing

from auralsam2_client.calls.answers import LOGITS
from auralsam2_client.calls.async_client import AsyncClient
from auralsam2_client.calls.planning import Plan, SegmentedClip, read_clip
from auralsam2_client.calls.segmentation import Segmentation
from auralsam2_client.contract import BUSY, COMBINATIONS
from auralsam2_client.errors import ServerUnavailable
from auralsam2_client.flow.deadline import choose_budget, pauses, time_left
from auralsam2_client.flow.pace import Pace
from auralsam2_client.flow.tasks import AsyncPlaces, in_order
from auralsam2_client.media.clips import MediaClip
from auralsam2_client.media.reader import Media
from auralsam2_client.media.sound_windows import saturate
from auralsam2_client.prompts import Prompts


async def segment_clips_async(
    client: AsyncClient,
    source: Media | Iterable[MediaClip],
    *,
    prompts: Prompts | None = None,
    text: str | None = None,
    use_audio: bool = True,
    combination: str = COMBINATIONS[0],
    answer: str = LOGITS,
    timeout_s: float | None = None,
    in_flight: int | None = None,
) -> AsyncGenerator[SegmentedClip, None]:
    """Segment a video clip by clip, as `segment_clips` does, for `async for`.

    A loop that ends early closes what is given here (`contextlib.aclosing`): calls under way are cancelled.
    """
    plan = Plan(source, await client.num_frames(), prompts, use_audio, combination, answer, text)
    pace, budget_s = Pace(in_flight), choose_budget(client.timeout_s, timeout_s)
    places, channel = AsyncPlaces(pace), client.own_channel()

    async def ask(clip: MediaClip) -> SegmentedClip:
        answer = await _answer(channel, plan, clip, places, budget_s, client.retries)
        # Masks at the size of the input take a while; the loop goes on meanwhile.
        return await asyncio.to_thread(read_clip, clip, answer)

    try:
        async with aclosing(in_order(plan.clips(), ask, num_ahead=pace.most + 1)) as segmented:
            async for clip in segmented:
                yield clip
    finally:
        await channel.close()


async def _answer(
    client: AsyncClient, plan: Plan, clip: MediaClip, places: AsyncPlaces, budget_s: float, retries: int
) -> Segmentation:
    """Ask for one clip until it is answered; its time begins with its first place."""
    deadline = None
    tries = pauses(retries, lambda: places.pace.has_answered)
    pause_s: float | None
    while True:
        await places.take()
        deadline = time.monotonic() + budget_s if deadline is None else deadline
        try:
            left_s = time_left(deadline, budget_s)
            heard = saturate(clip.heard.samples)
            answer = await client.segment(clip.frames, heard, **plan.question(clip), timeout_s=left_s)
        except ServerUnavailable as error:
            if error.code in BUSY:
                pause_s = await places.leave_refused()
            else:
                await places.leave()
                pause_s = next(tries)
            if pause_s is None or time.monotonic() + pause_s >= deadline:
                raise
        except BaseException:
            await places.leave()
            raise
        else:
            await places.leave(answered=True)
            return answer
        await asyncio.sleep(pause_s)
