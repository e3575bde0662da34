"""A folder in AVSBench's layout.

    metadata.csv                 uid, split (train | val | test), label (v1s | v1m | v2); or in avss_index/
    <label>/<uid>/frames/        one image a second, numbered
    <label>/<uid>/labels_rgb/    one PNG a frame; black is background, any colour an object that sounds
    <label>/<uid>/audio.wav

V1 clips hold 5 frames, V2 clips up to 10. The training part of V1s labels the first frame only: it can be trained on,
but not scored. The released V2 scripts pool all three: "v2" with `pooled` is the clips of v1s, then v1m, then v2.
"""

from functools import partial
from pathlib import Path

from auralsam2.data import files
from auralsam2.data.resampling import Resampler
from auralsam2.data.samples import Sample, Unread
from auralsam2.errors import DataError
from auralsam2_client.media.sound_windows import clip_windows

SUBSETS = ("v1s", "v1m", "v2")
_TABLES = ("metadata.csv", "avss_index/metadata.csv")


def open_split(
    root: Path,
    subset: str,
    split: str = "test",
    limit: int | None = None,
    *,
    pooled: bool = False,
    resampler: Resampler = "soxr",
    first_label: bool = False,
) -> list[Unread]:
    """List the clips of a subset's split, in the order of the table. Each is read when it is asked for.

    Args:
        limit: of clips, whole or not; None: all.
        pooled: "v2" stands for all three subsets, as in the released V2 scripts; the others are not touched.
        resampler, first_label: see `read_clip`.
    Raises: DataError when there is no table, or it lists no such clip. A clip raises it when it is read: for what
        `read_clip` raises it for, or a uid that leads out of the data set.
    """
    if subset not in SUBSETS:
        raise DataError(f"subset {subset!r} is unknown; choose one of {', '.join(SUBSETS)}.")
    table = next((root / name for name in _TABLES if (root / name).is_file()), None)
    if table is None:
        raise DataError(f"{root}: no {' or '.join(_TABLES)}. Give the folder that AVSBench was unpacked into.")
    rows = files.read_table(table, ("uid", "split", "label"))
    labels = SUBSETS if pooled and subset == "v2" else (subset,)
    listed = [
        (label, row["uid"]) for label in labels for row in rows if row["label"] == label and row["split"] == split
    ]
    if not listed:
        found = sorted({f"{row['label']}/{row['split']}" for row in rows})
        raise DataError(f"{table}: lists no clip of {subset}/{split}; it has {', '.join(found) or 'none at all'}.")

    def read(label: str, uid: str) -> Sample:
        return read_clip(files.inside(root / label, uid), resampler, first_label)

    return [Unread(f"{label}/{files.printable(uid)}", partial(read, label, uid)) for label, uid in listed[:limit]]


def read_clip(folder: Path, resampler: Resampler = "soxr", first_label: bool = False) -> Sample:
    """Read one clip.

    Args:
        folder: of the clip.
        resampler: for sound that is not at 16 kHz.
        first_label: read the first frame's label only, [1, H', W'], as the training part of V1s has it.
    Raises: DataError for no or too few labels, a corrupt image, sound that is missing or of another length.
    """
    frame_paths = files.numbered_images(folder / "frames", "frames")
    label_paths = files.numbered_images(folder / "labels_rgb", "labels")
    if first_label:
        label_paths = label_paths[:1]
    elif len(frame_paths) != len(label_paths):
        raise DataError(
            f"{folder}: {len(frame_paths)} frames but {len(label_paths)} labels. Every frame needs its label (the"
            " training part of V1s has one a clip: train on it, but judge on another part)."
        )
    frames, masks = files.read_frames(frame_paths), files.read_masks(label_paths)
    sound = files.read_sound(folder / "audio.wav", len(frames), resampler)
    return Sample(f"{folder.parent.name}/{folder.name}", frames, clip_windows(sound, len(frames)), masks)
