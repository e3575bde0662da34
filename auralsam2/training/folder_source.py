"""A training split in AVSBench's layout as a source of examples."""

from pathlib import Path

import numpy as np
from PIL import Image

from auralsam2.data import avsbench
from auralsam2.data.pictures import resize
from auralsam2.errors import DataError
from auralsam2.training.examples import Example, Source


def folder_source(root: Path, subset: str, size: int, seed: int) -> Source:
    """The clips of `subset`'s training split, in a new order for every pass.

    Args:
        root: folder in AVSBench's layout.
        subset: v1s | v1m | v2.
        size: px; frames are resized with PIL's bicubic filter, masks to the nearest pixel.
        seed: of the order.
    Raises: DataError, at once for a missing table or split, when called for a clip that cannot be read.
    """
    folders = avsbench.clip_folders(root, subset, "train")

    def source(number: int, num_frames: int) -> Example:
        turn, place = divmod(number, len(folders))
        folder = folders[int(np.random.default_rng([seed, 5, turn]).permutation(len(folders))[place])]
        sample = avsbench.read_clip(folder)
        if len(sample.frames) < num_frames:
            raise DataError(f"{folder}: {len(sample.frames)} frames; this run takes {num_frames} of a clip.")
        # Of a longer clip another part each pass.
        first = turn % (len(sample.frames) - num_frames + 1)
        part = slice(first, first + num_frames)
        masks = [
            np.asarray(Image.fromarray(mask).resize((size, size), Image.Resampling.NEAREST), bool)
            for mask in sample.masks[part]
        ]
        return Example(resize(sample.frames[part], size), sample.windows[part], np.stack(masks))

    return source
