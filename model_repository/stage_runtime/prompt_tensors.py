"""Prompts as they cross the wire: optional tensors of fixed size, checked and put into the words of SAM2.

POINT_COORDS [16, 2] float32, POINT_LABELS [16] int32   pixels of the S x S frame; -1 padding, 0 and 1 clicks beside and
                                                        on the object, 2 and 3 the corners of a box, which come first
MASK_INPUT [S/4, S/4] float32                           > 0 inside; alone on its frame, as in SAM2
PROMPT_FRAME [1] int32                                  absent or -1: the conditioning frame
USE_AUDIO [1] bool, COMBINATION [1] int32               absent: true, and the mean of logits
PROPAGATE [1] int32                                     of a session: 0 answers the marked frame only; absent: 1
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .combination import RULES
from .engine import Array, first_non_finite
from .prompted import MAX_POINTS
from .stage import BadRequest

PADDING, BESIDE, ON, TOP_LEFT, BOTTOM_RIGHT = -1, 0, 1, 2, 3
CAP = f"{MAX_POINTS} entries are taken on a frame, two of which a box takes"


@dataclass(frozen=True)
class ClipSize:
    """Of the served clips: T frames, S px a side, and which frame is decoded first."""

    num_frames: int
    image_size: int
    conditioning_frame: int


@dataclass(frozen=True)
class Marks:
    """What a person marked on one frame. At least one of box, points and mask is there; a mask is there alone."""

    frame: int
    points: Array  # [N, 2] float32
    labels: Array  # [N] int32, 0 or 1
    box: Array | None = None  # [2, 2] float32: top left, bottom right
    mask: Array | None = None  # [S/4, S/4] float32

    @property
    def num_entries(self) -> int:
        return len(self.points) + (0 if self.box is None else 2)

    @property
    def kinds(self) -> set[str]:
        found = {"points": len(self.points) > 0, "box": self.box is not None, "mask": self.mask is not None}
        return {kind for kind, there in found.items() if there}

    def padded(self) -> tuple[Array, Array]:
        """coords [16, 2] float32 and labels [16] int32: the box's corners, the points, then padding."""
        coords, labels = np.zeros((MAX_POINTS, 2), np.float32), np.full(MAX_POINTS, PADDING, np.int32)
        first = 0
        if self.box is not None:
            coords[:2], labels[:2], first = self.box, (TOP_LEFT, BOTTOM_RIGHT), 2
        coords[first : self.num_entries] = self.points
        labels[first : self.num_entries] = self.labels
        return coords, labels


def mode_of(use_audio: bool, kinds: set[str]) -> str:
    """What an answer was made from: "audio", "points+box", "audio+mask" and so on."""
    given = kinds | {"audio"} if use_audio else kinds
    return "+".join(kind for kind in ("audio", "points", "box", "mask") if kind in given)


def use_audio(tensors: Mapping[str, Array]) -> bool:
    return "USE_AUDIO" not in tensors or bool(tensors["USE_AUDIO"].reshape(-1)[0])


def propagates(tensors: Mapping[str, Array]) -> bool:
    """Whether a round is tracked to all frames. Raises: BadRequest."""
    number = int(tensors["PROPAGATE"].reshape(-1)[0]) if "PROPAGATE" in tensors else 1
    if number not in (0, 1):
        raise BadRequest(f"PROPAGATE is {number}; must be 1 (track to all frames) or 0 (the marked frame only).")
    return number == 1


def rule_of(tensors: Mapping[str, Array]) -> str:
    """How sound and prompts are combined. Raises: BadRequest."""
    number = int(tensors["COMBINATION"].reshape(-1)[0]) if "COMBINATION" in tensors else 0
    if not 0 <= number < len(RULES):
        known = ", ".join(f"{index} ({rule})" for index, rule in enumerate(RULES))
        raise BadRequest(f"COMBINATION is {number}; must be {known}.")
    return RULES[number]


def read_marks(tensors: Mapping[str, Array], clip: ClipSize) -> Marks | None:
    """The prompts among a request's optional tensors; None where there are none.

    Raises: BadRequest naming the value, the limit and the way out.
    """
    frame = _frame(tensors, clip)
    if ("POINT_COORDS" in tensors) != ("POINT_LABELS" in tensors):
        there = "POINT_COORDS" if "POINT_COORDS" in tensors else "POINT_LABELS"
        raise BadRequest(f"{there} came alone; POINT_COORDS and POINT_LABELS go together. Send both, or none.")
    mask = tensors.get("MASK_INPUT")
    if mask is not None:
        _check_mask(mask)
    if "POINT_COORDS" not in tensors:
        nothing = np.zeros((0, 2), np.float32), np.zeros(0, np.int32)
        return None if mask is None else Marks(frame, *nothing, mask=np.array(mask))
    coords, labels = np.asarray(tensors["POINT_COORDS"]), np.asarray(tensors["POINT_LABELS"])
    num_entries = _num_entries(labels)
    coords, labels = np.array(coords[:num_entries]), np.array(labels[:num_entries])
    _check_places(coords, clip.image_size)
    if num_entries and mask is not None:
        raise BadRequest(
            f"MASK_INPUT came with {num_entries} points or corners of a box; on a frame SAM2 takes one or the other."
            " Leave one out."
        )
    if num_entries == 0:
        return None if mask is None else Marks(frame, coords, labels, mask=np.array(mask))
    has_box = _has_box(coords, labels)
    first = 2 if has_box else 0
    return Marks(frame, coords[first:], labels[first:], box=coords[:2] if has_box else None)


def _frame(tensors: Mapping[str, Array], clip: ClipSize) -> int:
    frame = int(tensors["PROMPT_FRAME"].reshape(-1)[0]) if "PROMPT_FRAME" in tensors else -1
    if not -1 <= frame < clip.num_frames:
        raise BadRequest(
            f"PROMPT_FRAME is {frame}; this clip has frames 0 to {clip.num_frames - 1}, and -1 is the conditioning"
            f" frame, {clip.conditioning_frame}."
        )
    return clip.conditioning_frame if frame == -1 else frame


def _num_entries(labels: Array) -> int:
    unknown = (labels < PADDING) | (labels > BOTTOM_RIGHT)
    if unknown.any():
        place = int(unknown.argmax())
        raise BadRequest(
            f"POINT_LABELS is {labels[place]} at [{place}]; must be 1 (on the object), 0 (beside it), 2 and 3 (corners"
            " of a box), or -1 (padding)."
        )
    used = np.flatnonzero(labels != PADDING)
    if len(used) and used[-1] != len(used) - 1:
        place = int((labels == PADDING).argmax())
        raise BadRequest(f"POINT_LABELS is -1 (padding) at [{place}], before points. Move the padding to the end.")
    return len(used)


def _check_places(coords: Array, image_size: int) -> None:
    # NaN is in no range.
    outside = ~((coords >= 0) & (coords <= image_size))
    if outside.any():
        place = int(outside.any(axis=1).argmax())
        x, y = coords[place]
        raise BadRequest(
            f"POINT_COORDS is ({x:g}, {y:g}) at [{place}], outside the frame; x and y must be 0 to {image_size}, pixels"
            f" of the frame as it is sent, {image_size} x {image_size}. Scale them with the frame."
        )


def _has_box(coords: Array, labels: Array) -> bool:
    corners = np.flatnonzero(labels >= TOP_LEFT)
    if len(corners) == 0:
        return False
    if labels[:2].tolist() != [TOP_LEFT, BOTTOM_RIGHT] or len(corners) != 2:
        raise BadRequest(
            f"POINT_LABELS has corners of a box at {corners.tolist()}; a box is label 2 at [0] and 3 at [1], once."
        )
    (x0, y0), (x1, y1) = coords[:2]
    if not (x0 < x1 and y0 < y1):
        raise BadRequest(
            f"The box in POINT_COORDS is ({x0:g}, {y0:g}) to ({x1:g}, {y1:g}), which is empty or turned round; the"
            " second corner must lie to the right of the first and below it."
        )
    return True


def _check_mask(mask: Array) -> None:
    index = first_non_finite(mask)
    if index is not None:
        raise BadRequest(f"MASK_INPUT is {mask[index]} at {list(index)}; every value must be finite.")
    if not (mask > 0).any():
        raise BadRequest("MASK_INPUT is nowhere above 0: it marks nothing. Send a mask that is above 0 inside.")
