"""The held-out clips of the procedural world, as samples."""

from collections.abc import Iterator
from functools import partial

from auralsam2.data.samples import Sample, Unread
from auralsam2.data.world import scenes
from auralsam2_client.media.sound_windows import clip_windows

SEED = 0
NUM_CLIPS = 200


def read_split(
    split: scenes.Split, count: int = NUM_CLIPS, seed: int = SEED, size: int = 256, num_frames: int = 5
) -> Iterator[Sample]:
    """Read the first `count` held-out clips of a split. Raises NetworkError for an unknown split."""
    for clip in scenes.clips(split, "held_out", seed, count, size, num_frames):
        yield _sample(clip)


def open_split(split: scenes.Split, count: int = NUM_CLIPS, seed: int = SEED) -> list[Unread]:
    """List the clips that `read_split` reads; each is drawn when it is asked for."""
    return [Unread(scenes.clip_name(split, index), partial(_draw, split, seed, index)) for index in range(count)]


def _draw(split: scenes.Split, seed: int, index: int) -> Sample:
    return _sample(scenes.clip(split, "held_out", seed, index))


def _sample(clip: scenes.Clip) -> Sample:
    return Sample(clip.name, clip.frames, clip_windows(clip.sound, len(clip.frames)), clip.masks)
