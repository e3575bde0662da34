"""A training split in AVSBench's layout as a source of examples."""

from pathlib import Path

import numpy as np

from auralsam2.data import avsbench
from auralsam2.data.pictures import resize_masks
from auralsam2.data.resampling import Resampler
from auralsam2.errors import DataError
from auralsam2.training.examples.clips import Example, Source
from auralsam2_client.media.frames import resize_frames

FIRST_FRAME_ONLY = "v1s"


def folder_source(root: Path, subset: str, size: int, seed: int, resampler: Resampler = "soxr") -> Source:
    """Read the clips of `subset`'s training split, in a new order for every pass.

    Of V1s only the first frame is labelled; the masks of the others are empty and `labelled` says so.

    Args:
        root: folder in AVSBench's layout.
        subset: v1s | v1m | v2.
        size: px; frames are resized with PIL's bicubic filter, masks to the nearest pixel.
        seed: of the order.
        resampler: for sound that is not at 16 kHz.
    Raises: DataError, at once for a missing table or split, when called for a clip that cannot be read.
    """
    folders = avsbench.clip_folders(root, subset, "train")

    def source(number: int, num_frames: int) -> Example:
        turn, place = divmod(number, len(folders))
        folder = folders[int(np.random.default_rng([seed, 5, turn]).permutation(len(folders))[place])]
        first_only = subset == FIRST_FRAME_ONLY
        sample = avsbench.read_clip(folder, resampler, first_label=first_only)
        if len(sample.frames) < num_frames:
            raise DataError(f"{folder}: {len(sample.frames)} frames; this run takes {num_frames} of a clip.")
        # Of a longer clip another part each pass, but not without the only label.
        first = 0 if first_only else turn % (len(sample.frames) - num_frames + 1)
        part = slice(first, first + num_frames)
        masks = resize_masks(sample.masks[part], (size, size))
        labelled = None
        if first_only:
            masks = np.concatenate([masks, np.zeros((num_frames - 1, size, size), bool)])
            labelled = np.arange(num_frames) == 0
        return Example(resize_frames(sample.frames[part], size), sample.windows[part], masks, labelled)

    return source
