"""Milliseconds of CPU that each step of `segment` takes of a frame, one step after the other in one process."""

import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

import numpy as np

from auralsam2_client.calls.client import Client
from auralsam2_client.contract import SAMPLE_RATE
from auralsam2_client.masks import to_masks, to_rle, write_mask
from auralsam2_client.media.containers.packets import open_container
from auralsam2_client.media.sound_windows import windows
from auralsam2_client.media.stills.frames import resize_frames
from auralsam2_client.media.streaming import MediaStream
from auralsam2_client.media.video_reader import VideoReader
from service.results.caption import add_caption, caption_of
from service.results.overlay import draw_mask
from service.results.video import write_video

Made = TypeVar("Made")


def steps_ms(path: Path, url: str, num_frames: int = 60) -> dict[str, float]:
    """Measure the steps on the first frames of a video, one a second; the model answers at `url`."""
    found: dict[str, float] = {}

    def timed(name: str, step: Callable[[], Made]) -> Made:
        began = time.process_time()
        made = step()
        found[name] = 1e3 * (time.process_time() - began) / num_frames
        return made

    timed("decode", lambda: _decode(path, num_frames))
    with MediaStream(path, max_frames=num_frames) as stream, Client(url) as client:
        clips = timed("read", lambda: list(stream.clips(client.num_frames)))
        frames = np.concatenate([clip.frames for clip in clips])
        small = timed("resize", lambda: resize_frames(frames, client.image_size))
        sound = windows(None, client.num_frames).samples
        whole = len(small) // client.num_frames * client.num_frames
        sent = [small[first : first + client.num_frames] for first in range(0, whole, client.num_frames)]
        answers = timed("send and receive", lambda: [client.segment(each, sound) for each in sent])
    # Sound and RGB are what reading takes beside decoding.
    found["sound and RGB"] = max(0.0, found.pop("read") - found["decode"])
    logits = np.concatenate([answer.mask_logits for answer in answers])
    masks = timed("upscale", lambda: to_masks(logits, frames.shape[1:3]))
    timed("RLE", lambda: [to_rle(mask) for mask in masks])
    with tempfile.TemporaryDirectory() as folder:
        timed("PNG", lambda: [write_mask(Path(folder), index, mask) for index, mask in enumerate(masks)])
        shown = zip(frames, masks, strict=False)
        caption = caption_of(0, 0.0, 0.0)
        drawn = timed("draw overlay", lambda: [add_caption(draw_mask(*each), caption) for each in shown])
        held = [(picture, 25) for picture in drawn]
        timed("encode overlay", lambda: write_video(Path(folder) / "a.mp4", held, Fraction(25), None, SAMPLE_RATE))
    return found


def _decode(path: Path, seconds: int) -> None:
    with open_container(path) as container:
        for _, time_s in VideoReader(path, container).frames():
            if time_s >= seconds:
                return
