"""Prompts as they cross the wire, checked once and put into one form; the contract says what each tensor holds."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from auralsam2_client.contract import (
    BOTTOM_RIGHT,
    COMBINATIONS,
    DEFAULT_FRAME,
    DTYPES,
    MAX_POINTS,
    PADDING,
    TOP_LEFT,
    FramePrompt,
    Sizes,
    tensor,
)

from ..engine import Array, first_non_finite
from ..engine.refusals import BadRequest
from .sentence import read_words

CAP = f"{MAX_POINTS} entries are taken on a frame, two of which a box takes"
NOTHING_TO_GO_BY = (
    "USE_AUDIO is false and there is no prompt, so that nothing says what to segment. Send POINT_COORDS and"
    " POINT_LABELS, MASK_INPUT, or TEXT to a build that reads, or leave USE_AUDIO out."
)

Prompt = FramePrompt[Array]


@dataclass(frozen=True)
class ClipSize:
    """Of the served clips: T frames, S px a side, and which frame is decoded first."""

    num_frames: int
    image_size: int
    conditioning_frame: int


@dataclass(frozen=True, eq=False)
class Asked:
    """What a request asks for beside its clip."""

    prompt: Prompt | None = None
    use_audio: bool = True
    rule: str = COMBINATIONS[0]
    propagate: bool = True
    """Of a session: whether a round is tracked to all frames."""
    step: int | None = None
    """Of a session: the number of the round; None: the next one."""
    digest: bytes = b""
    """Of a session: of all tensors, the same for a round that is repeated."""
    says: bool = False
    """Whether words say what is meant."""


def read_prompts(tensors: Mapping[str, Array], clip: ClipSize) -> Asked:
    """Read a request's optional tensors, and check them all.

    Arrays of the answer are copies, and outlive the request.

    Raises: BadRequest naming the value, the limit and the way out.
    """
    words = read_words(tensors)
    for name, value in tensors.items():
        _check_form(name, value, clip)
    propagate = _number(tensors, "PROPAGATE", 1)
    if propagate not in (0, 1):
        raise BadRequest(f"PROPAGATE is {propagate}; must be 1 (track to all frames) or 0 (the marked frame only).")
    rule = _number(tensors, "COMBINATION", 0)
    if not 0 <= rule < len(COMBINATIONS):
        known = ", ".join(f"{index} ({each})" for index, each in enumerate(COMBINATIONS))
        raise BadRequest(f"COMBINATION is {rule}; must be {known}.")
    step = _number(tensors, "STEP", 0) if "STEP" in tensors else None
    return Asked(_prompt(tensors, clip), use_audio(tensors), COMBINATIONS[rule], propagate == 1, step, says=bool(words))


def read_round(tensors: Mapping[str, Array], clip: ClipSize) -> Asked:
    """Read a session's round as `read_prompts` does, with the digest by which a repeated one is known."""
    asked, total = read_prompts(tensors, clip), hashlib.sha256()
    for name in sorted(tensors):
        total.update(name.encode() + np.ascontiguousarray(tensors[name]).tobytes())
    return replace(asked, digest=total.digest())


def use_audio(tensors: Mapping[str, Array]) -> bool:
    """Tell whether the sound counts."""
    return "USE_AUDIO" not in tensors or bool(tensors["USE_AUDIO"].reshape(-1)[0])


def kinds(prompt: Prompt) -> set[str]:
    """Name what a prompt is made of: "points", "box", "mask"."""
    found = {
        "points": bool((prompt.labels < TOP_LEFT).any()),
        "box": has_box(prompt),
        "mask": prompt.mask is not None,
    }
    return {kind for kind, there in found.items() if there}


def has_box(prompt: Prompt) -> bool:
    """Tell whether a prompt begins with the corners of a box."""
    return bool((prompt.labels >= TOP_LEFT).any())


def mode_of(use_audio: bool, kinds: set[str], says: bool = False) -> str:
    """Name what an answer was made from: "audio", "points+box", "audio+text+mask" and so on."""
    given = kinds | ({"audio"} if use_audio else set()) | ({"text"} if says else set())
    return "+".join(kind for kind in ("audio", "text", "points", "box", "mask") if kind in given)


def _number(tensors: Mapping[str, Array], name: str, absent: int) -> int:
    return int(tensors[name].reshape(-1)[0]) if name in tensors else absent


def _check_form(name: str, value: Array, clip: ClipSize) -> None:
    wanted = tensor(name, Sizes(clip.num_frames, clip.image_size, 0))
    dtype = np.dtype(DTYPES[wanted.dtype])
    if value.shape != wanted.shape or value.dtype != dtype:
        raise BadRequest(f"{name}: {value.dtype} {list(value.shape)}; must be {dtype} {list(wanted.shape)}.")


def _prompt(tensors: Mapping[str, Array], clip: ClipSize) -> Prompt | None:
    frame = _frame(tensors, clip)
    if ("POINT_COORDS" in tensors) != ("POINT_LABELS" in tensors):
        there = "POINT_COORDS" if "POINT_COORDS" in tensors else "POINT_LABELS"
        raise BadRequest(f"{there} came alone; POINT_COORDS and POINT_LABELS go together. Send both, or none.")
    mask = tensors.get("MASK_INPUT")
    if mask is not None:
        _check_mask(mask)
        mask = np.array(mask)
    coords, labels = np.zeros((0, 2), np.float32), np.zeros(0, np.int32)
    if "POINT_COORDS" in tensors:
        num_entries = _num_entries(tensors["POINT_LABELS"])
        coords, labels = (np.array(tensors[name][:num_entries]) for name in ("POINT_COORDS", "POINT_LABELS"))
        _check_places(coords, clip.image_size)
        _check_box(coords, labels)
    if len(labels) and mask is not None:
        raise BadRequest(
            f"MASK_INPUT came with {len(labels)} points or corners of a box; on a frame SAM2 takes one or the other."
            " Leave one out."
        )
    if not len(labels) and mask is None:
        return None
    return FramePrompt(frame, coords, labels, mask)


def _frame(tensors: Mapping[str, Array], clip: ClipSize) -> int:
    frame = _number(tensors, "PROMPT_FRAME", DEFAULT_FRAME)
    if not DEFAULT_FRAME <= frame < clip.num_frames:
        raise BadRequest(
            f"PROMPT_FRAME is {frame}; this clip has frames 0 to {clip.num_frames - 1}, and {DEFAULT_FRAME} is the"
            f" conditioning frame, {clip.conditioning_frame}."
        )
    return clip.conditioning_frame if frame == DEFAULT_FRAME else frame


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


def _check_box(coords: Array, labels: Array) -> None:
    corners = np.flatnonzero(labels >= TOP_LEFT)
    if len(corners) == 0:
        return
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


def _check_mask(mask: Array) -> None:
    index = first_non_finite(mask)
    if index is not None:
        raise BadRequest(f"MASK_INPUT is {mask[index]} at {list(index)}; every value must be finite.")
    if not (mask > 0).any():
        raise BadRequest("MASK_INPUT is nowhere above 0: it marks nothing. Send a mask that is above 0 inside.")
