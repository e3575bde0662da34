"""A training split in AVSBench's layout as a source of examples."""

import logging
from pathlib import Path

import numpy as np

from auralsam2.data import avsbench
from auralsam2.data.pictures import resize_masks
from auralsam2.data.resampling import Resampler
from auralsam2.data.samples import Sample
from auralsam2.errors import DataError
from auralsam2.training.examples.clips import Example, Source
from auralsam2_client.media.stills.frames import resize_frames

FIRST_FRAME_ONLY = "v1s"
_LOG = logging.getLogger(__name__)


def folder_source(root: Path, subset: str, size: int, seed: int, resampler: Resampler = "soxr") -> Source:
    """Read the clips of `subset`'s training split, in a new order for every pass.

    Of V1s only the first frame is labelled; the masks of the others are empty and `labelled` says so.

    Args:
        root: folder in AVSBench's layout.
        subset: v1s | v1m | v2.
        size: px; frames are resized with PIL's bicubic filter, masks to the nearest pixel.
        seed: of the order.
        resampler: for sound that is not at 16 kHz.
    A clip that cannot be used is named once, in a warning, and left out: the next one in the order of that pass that
    can be takes its place. So the same files give the same example for a number, in whichever process it is read.

    Raises: DataError, at once for a missing table or split, when called where no clip of the split can be used.
    """
    first_only = subset == FIRST_FRAME_ONLY
    clips = avsbench.open_split(root, subset, "train", resampler=resampler, first_label=first_only)
    faults: dict[tuple[int, int], str] = {}

    def read(place: int, num_frames: int) -> Sample | None:
        """The clip, or None when it cannot be used."""
        if (place, num_frames) in faults:
            return None
        try:
            sample = clips[place].read()
            if len(sample.frames) < num_frames:
                raise DataError(f"{len(sample.frames)} frames; this run takes {num_frames} of a clip.")
        except DataError as error:
            faults[place, num_frames] = str(error)
            _LOG.warning("%s is left out of training, and the next clip takes its place: %s", clips[place].name, error)
            return None
        return sample

    def source(number: int, num_frames: int) -> Example:
        turn, place = divmod(number, len(clips))
        order = np.random.default_rng([seed, 5, turn]).permutation(len(clips)).tolist()
        found = (read(other, num_frames) for other in order[place:] + order[:place])
        sample = next((sample for sample in found if sample is not None), None)
        if sample is None:
            wanted = order[place]
            raise DataError(
                f"{root}: none of the {len(clips)} clips of {subset}/train can be used. {clips[wanted].name}:"
                f" {faults[wanted, num_frames]}"
            )
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
