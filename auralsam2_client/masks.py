"""Masks out: logits at a quarter of the model's square -> masks at the video's size -> RLE, PNG and result.json."""

import json
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from auralsam2_client.contract import BuildInfo
from auralsam2_client.enlarging import above_zero, enlarge, part, taps
from auralsam2_client.errors import BadInput
from auralsam2_client.new_file import new_file
from auralsam2_client.run_files import RESULT, mask_name


class Rle(TypedDict):
    """A mask in COCO's compressed run-length encoding."""

    size: list[int]  # [H, W]
    counts: str


@dataclass(frozen=True, eq=False)
class FrameResult:
    """What the model says about one frame."""

    time_s: float
    mask: NDArray[np.bool_]  # [H, W]
    iou: NDArray[np.float32]  # [3], predicted for the three candidate masks
    # Which of the three has the best predicted IoU: `mask` itself, unless the build reads out "first".
    best_candidate: int
    object_score: float  # logit: is any sounding object there
    mode: str = "audio"  # what made it: sound, points, a box, a mask, or several
    labels: NDArray[np.uint8] | None = None  # [H, W], of a build with classes: 1 to K inside the mask, 0 outside
    class_scores: Mapping[str, float] | None = None  # by name, 0 to 1: is it among what sounds

    def class_areas(self) -> dict[str, int]:
        """Count the pixels of each class that is there, by name; none of a build without classes."""
        if self.labels is None or self.class_scores is None:
            return {}
        names, counts = list(self.class_scores), np.bincount(self.labels.reshape(-1), minlength=1)
        return {names[label - 1]: int(counts[label]) for label in np.flatnonzero(counts[1:]) + 1}


def upsample(logits: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Resize bilinearly as torch.nn.functional.interpolate does (align_corners False, no antialiasing), up or down.

    Output pixel p reads the input at max(0, (p + 1/2) n_in / n_out - 1/2) along each axis. For a long clip see
    `to_masks`: the upsampled floats of all frames take four times the memory of the masks.

    Args:
        logits: [..., h, w] float32.
        height, width: in pixels, at least 1.
    Returns: [..., height, width] float32, newly allocated.
    Raises: BadInput when logits has fewer than two axes or an empty one, or a size is below 1.
    """
    flat = _frames_of(logits, height, width)
    resized = np.empty((len(flat), height, width), np.float32)
    rows, columns = taps(logits.shape[-2], height), taps(logits.shape[-1], width)
    for index, frame in enumerate(flat):
        resized[index] = enlarge(frame, rows, columns)
    return resized.reshape(*logits.shape[:-2], height, width)


def to_masks(logits: NDArray[np.float32], size: tuple[int, int] | None = None) -> NDArray[np.bool_]:
    """Return where logits > 0, after upsampling to size = (height, width) if given, a few rows at a time.

    Args:
        logits: [..., h, w] float32.
    Returns: [..., height, width] bool.
    Raises: BadInput as `upsample` does.
    """
    if size is None:
        return np.asarray(logits > 0)
    flat = _frames_of(logits, *size)
    masks = np.empty((len(flat), *size), np.bool_)
    rows, columns = taps(logits.shape[-2], size[0]), taps(logits.shape[-1], size[1])
    for index, frame in enumerate(flat):
        for start in range(0, size[0], _BAND_ROWS):
            end = start + _BAND_ROWS
            masks[index, start:end] = above_zero(frame, part(rows, start, end), columns)
    return masks.reshape(*logits.shape[:-2], *size)


def to_rle(mask: NDArray[np.bool_]) -> Rle:
    """Encode a mask [H, W] (any type; non-zero is inside) as COCO RLE that JSON can hold."""
    from pycocotools import mask as coco

    encoded = coco.encode(np.asfortranarray(mask != 0, np.uint8))
    return {"size": [int(n) for n in encoded["size"]], "counts": encoded["counts"].decode("ascii")}


def from_rle(rle: Rle) -> NDArray[np.bool_]:
    """Decode to [H, W] bool."""
    from pycocotools import mask as coco

    with warnings.catch_warnings():
        # pycocotools up to 2.0.11 has no `copy` in its __array__, which NumPy 2 deprecates.
        warnings.simplefilter("ignore", DeprecationWarning)
        decoded = coco.decode({"size": rle["size"], "counts": rle["counts"].encode("ascii")})
    return np.asarray(decoded).astype(np.bool_)


def write_masks(out_dir: str | Path, masks: Sequence[NDArray[np.bool_]] | NDArray[np.bool_]) -> list[Path]:
    """Write mask_00000.png, mask_00001.png, ... (8-bit grey, 0 or 255) into out_dir, made if it is missing.

    Files of the same names are replaced; a link is replaced itself, and not what it points at.
    """
    folder = _folder(out_dir)
    return [write_mask(folder, index, mask) for index, mask in enumerate(masks)]


def write_mask(folder: Path, index: int, mask: NDArray[np.bool_]) -> Path:
    """Write one mask as `write_masks` does, into a folder that is there."""
    path = folder / mask_name(index)
    with new_file(path) as partial:
        Image.fromarray(np.where(mask, np.uint8(255), np.uint8(0))).save(partial, format="PNG")
    return path


def write_results(
    out_dir: str | Path,
    frames: Sequence[FrameResult],
    *,
    source: str,
    fps: float,
    model: str,
    precision: Mapping[str, str],
    facts: Mapping[str, Any] | None = None,
    wire: str | None = None,
    build: BuildInfo | None = None,
    masks_as_png: bool = True,
    files: Sequence[str] = (),
    beside: Sequence[str] = (),
) -> Path:
    """Write result.json, and the masks as PNG beside it.

    Args:
        out_dir: made if it is missing; files of the same names are replaced, links themselves.
        frames: in order of time, masks of one size.
        source, fps, model, precision: written as they are.
        facts: written beside them: `Media.facts`.
        wire: how the frames went to the server, where it is known.
        build: what answered, where it is known.
        masks_as_png: also write mask_00000.png and so on.
        files: the file that each frame comes from, `Media.files`; none for a video.
        beside: names of other files of the same run, for the list `written`.
    Returns: the path of result.json.
    Raises: BadInput when there are no frames, counts or sizes differ, a number is not finite, or out_dir cannot be
        written.
    """
    if not frames:
        raise BadInput("There are 0 frames to write; at least 1 is needed. Was the clip empty?")
    if files and len(files) != len(frames):
        raise BadInput(f"There are {len(files)} files for {len(frames)} frames; one a frame is needed, or none.")
    size = frames[0].mask.shape
    entries = [frame_entry(index, frame, size, files[index] if files else None) for index, frame in enumerate(frames)]
    folder = _folder(out_dir)
    with _writing(folder):
        if masks_as_png:
            write_masks(folder, [frame.mask for frame in frames])
    return write_entries(
        folder,
        entries,
        source=source,
        fps=fps,
        model=model,
        precision=precision,
        facts=facts,
        wire=wire,
        build=build,
        masks_as_png=masks_as_png,
        beside=beside,
    )


def frame_entry(index: int, frame: FrameResult, size: tuple[int, ...], file: str | None = None) -> dict[str, Any]:
    """Put a frame's answer as result.json has it.

    Args:
        size: of the first mask, which all have.
        file: the file that the frame comes from.
    Raises: BadInput for a mask of another size, or a number that is not finite.
    """
    if frame.mask.shape != size:
        raise BadInput(f"Mask {index} is {list(frame.mask.shape)}, mask 0 is {list(size)}; one size is needed.")
    iou = [float(value) for value in frame.iou]
    if not all(math.isfinite(value) for value in (*iou, frame.object_score, frame.time_s)):
        raise BadInput(
            f"Frame {index}: time {frame.time_s}, iou {iou}, object_score {frame.object_score}; JSON holds finite "
            "numbers only. The model's answer is broken: check its weights and precision."
        )
    return {
        "index": index,
        "time_s": float(frame.time_s),
        **({} if file is None else {"file": file}),
        "rle": to_rle(frame.mask),
        "area_px": int(np.count_nonzero(frame.mask)),
        "iou": iou,
        "best_candidate": int(frame.best_candidate),
        "object_score": float(frame.object_score),
        "mode": frame.mode,
        **_classes_entry(frame),
    }


def _classes_entry(frame: FrameResult) -> dict[str, Any]:
    """What result.json has of a frame's classes, each with its pixels and its score; nothing of a build without."""
    if frame.class_scores is None:
        return {}
    areas = frame.class_areas()
    return {
        "classes": {
            name: {"area_px": areas.get(name, 0), "score": float(score)} for name, score in frame.class_scores.items()
        }
    }


def write_entries(
    folder: Path,
    entries: Sequence[Mapping[str, Any]],
    *,
    source: str,
    fps: float,
    model: str,
    precision: Mapping[str, str],
    facts: Mapping[str, Any] | None = None,
    wire: str | None = None,
    build: BuildInfo | None = None,
    masks_as_png: bool = True,
    beside: Sequence[str] = (),
) -> Path:
    """Write result.json from the entries of its frames, at least one. Arguments and errors as `write_results`."""
    height, width = entries[0]["rle"]["size"]
    result = {
        "source": source,
        "image_size": {"height": int(height), "width": int(width)},
        "fps": float(fps),
        "model": model,
        "precision": dict(precision),
        **(facts or {}),
        **({} if wire is None else {"wire": wire}),
        **({} if build is None else {"build": build}),
        "frames": list(entries),
        "written": [*(mask_name(index) for index in range(len(entries) if masks_as_png else 0)), *beside, RESULT],
    }
    path = folder / RESULT
    # Whoever waits for the file never reads half of it.
    with _writing(folder), new_file(path) as partial:
        partial.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return path


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BadInput(f"{folder} cannot be written: {error.strerror}. Choose another --out.") from error


# The floats of a large frame take many times the memory of its mask, those of a band little.
_BAND_ROWS = 256


def _frames_of(logits: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    if logits.ndim < 2 or 0 in logits.shape[-2:] or height < 1 or width < 1:
        raise BadInput(
            f"logits {list(logits.shape)} to {height} x {width}; must be [..., h, w] and a size of at least 1 x 1."
        )
    return logits.reshape(-1, *logits.shape[-2:]).astype(np.float32, copy=False)


def _folder(out_dir: str | Path) -> Path:
    folder = Path(out_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{folder} cannot be made a folder: {error.strerror}. Choose another --out.") from error
    return folder
