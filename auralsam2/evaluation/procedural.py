"""The held-out clips of the procedural world, as samples."""

from collections.abc import Iterator

from auralsam2.data.samples import Sample
from auralsam2.training import world
from auralsam2.training.examples import of_clip

SEED = 0
NUM_CLIPS = 200


def read_split(
    split: world.Split, count: int = NUM_CLIPS, seed: int = SEED, size: int = 256, num_frames: int = 5
) -> Iterator[Sample]:
    """The first `count` held-out clips of a split. Raises NetworkError for an unknown split."""
    for clip in world.clips(split, "held_out", seed, count, size, num_frames):
        example = of_clip(clip)
        yield Sample(clip.name, example.frames, example.windows, example.masks)
