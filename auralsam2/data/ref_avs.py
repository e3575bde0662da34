"""A folder in Ref-AVS's layout.

    metadata.csv                     columns uid, vid, split (train | val | test_s | test_u | test_n), fid, exp
    media/<vid>/frames/              ten images, numbered
    media/<vid>/audio.wav
    gt_mask/<vid>/fid_<fid>/         one PNG a frame; black is background

test_s holds objects seen in training, test_u unseen ones, test_n expressions that point at nothing: its truth is empty,
and its figure is S. The video of a null row is its uid without the last two parts.

The released scripts fill sound up to 5 examples only. The network appends the words to the sound's examples and gives
frame t the t-th of all these, so that with 9 examples the tenth frame hears the first word.
"""

from functools import partial
from pathlib import Path

import numpy as np

from auralsam2.data import files
from auralsam2.data.resampling import Resampler
from auralsam2.data.samples import Sample, Unread
from auralsam2.errors import DataError
from auralsam2_client.media.sound_windows import clip_windows, num_windows

SPLITS = {"seen": "test_s", "unseen": "test_u", "null": "test_n"}
_COLUMNS = ("uid", "vid", "split", "fid", "exp")


def _rows(root: Path, split: str) -> list[dict[str, str]]:
    if split not in SPLITS:
        raise DataError(f"split {split!r} is unknown; choose one of {', '.join(SPLITS)}.")
    rows = files.read_table(root / "metadata.csv", _COLUMNS)
    chosen = [row for row in rows if row["split"] == SPLITS[split]]
    if not chosen:
        found = ", ".join(sorted({row["split"] for row in rows})) or "none at all"
        raise DataError(f"{root / 'metadata.csv'}: lists no clip of {SPLITS[split]}; it has {found}.")
    return chosen


def _read(root: Path, row: dict[str, str], null: bool, resampler: Resampler, least_examples: int | None) -> Sample:
    video = row["uid"].rsplit("_", 2)[0] if null else row["vid"]
    media = files.inside(root / "media", video)
    frames = files.read_frames(files.numbered_images(media / "frames", "frames"))
    if null:
        masks = np.zeros(frames.shape[:3], bool)
    else:
        folder = files.inside(files.inside(root / "gt_mask", video), f"fid_{row['fid']}")
        paths = files.numbered_images(folder, "labels")
        if len(paths) != len(frames):
            raise DataError(f"{folder}: {len(paths)} labels for {len(frames)} frames. Every frame needs its label.")
        masks = files.read_masks(paths)
    sound = files.read_sound(media / "audio.wav", len(frames), resampler)
    count = len(frames) if least_examples is None else max(least_examples, num_windows(sound))
    return Sample(row["uid"], frames, clip_windows(sound, count), masks, row["exp"])


def open_split(
    root: Path,
    split: str,
    limit: int | None = None,
    *,
    resampler: Resampler = "soxr",
    least_examples: int | None = None,
) -> list[Unread]:
    """List the clips of "seen", "unseen" or "null", in the order of the table. Each is read when it is asked for.

    Args:
        limit: of clips, whole or not; None: all.
        resampler: for sound that is not at 16 kHz.
        least_examples: fill sound up to so many examples, and keep all of longer sound | None: one a frame.
    Raises: DataError for an unknown or empty split. A clip raises it when it is read: for missing or too few labels, a
        corrupt image, sound that is missing or of another length, or a name that leads out of the data set.
    """
    return [
        Unread(files.printable(row["uid"]), partial(_read, root, row, split == "null", resampler, least_examples))
        for row in _rows(root, split)[:limit]
    ]
