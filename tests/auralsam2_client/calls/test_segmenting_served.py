"""A whole video on the real server with a toy build: with clips in flight it is what it is one after the other."""

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest

from auralsam2_client.calls.async_client import AsyncClient
from auralsam2_client.calls.client import Client
from auralsam2_client.calls.segmenting import segment_media
from auralsam2_client.calls.segmenting_async import segment_clips_async
from auralsam2_client.contract import SAMPLE_RATE
from auralsam2_client.masks import FrameResult
from auralsam2_client.media.reader import Media
from auralsam2_client.media.sound_windows import windows
from service.server.launcher import Launcher
from tests.service.toy import build_folder as toy
from tests.service.toy.running import toy_config

T = toy.T


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    build = toy.write(tmp_path_factory.mktemp("segmenting") / "build")
    with Launcher(toy_config(build), sink=lambda line: None) as launcher:
        yield launcher.config.grpc_url


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with Client(url, timeout_s=30) as client:
        yield client


def test_a_video_with_clips_in_flight_is_the_same_to_the_byte_as_one_clip_after_the_other(
    client: Client, url: str
) -> None:
    random = np.random.default_rng(20)
    num_frames, fps = 4 * T + 1, 2.0
    media = Media(
        random.integers(0, 256, (num_frames, 24, 40, 3), np.uint8),
        np.arange(num_frames) / fps,
        fps,
        random.uniform(-1, 1, (3 * SAMPLE_RATE, 2)).astype(np.float32),  # ends before the video
        "drawn",
        num_frames / fps,
    )
    masks, scores, ious = [], [], []
    for first in range(0, num_frames, T):
        frames = media.frames[first : first + T]
        answer = client.segment(frames, windows(media.sound, len(frames), fps, first / fps).samples)
        masks.append(answer.masks())
        scores += list(answer.object_score)
        ious += list(answer.iou)

    async def for_asyncio() -> list[FrameResult]:
        async with AsyncClient(url, timeout_s=10) as other:
            return [frame async for clip in segment_clips_async(other, media) for frame in clip.results]

    found = segment_media(client, media)
    assert found.num_repeated_windows == 3
    for results in (found.frames, asyncio.run(for_asyncio())):
        assert np.stack([frame.mask for frame in results]).tobytes() == np.concatenate(masks).tobytes()
        assert [frame.object_score for frame in results] == scores
        assert np.stack([frame.iou for frame in results]).tobytes() == np.stack(ious).tobytes()
    assert client.is_ready()  # its own channel is open
