"""What the served weights know, and what there is to say of it where a clip is not of that kind."""

import json
from typing import Any

from numpy.typing import NDArray

from auralsam2_client.contract import AURALSAM2, NOTHING, PROCEDURAL_WORLD, BuildInfo
from auralsam2_client.errors import ServerFault

LEAST_SHARE = 0.01
"""Of a video's pixels in masks: with less, next to nothing was found."""


def read_build_info(tensor: NDArray[Any]) -> BuildInfo:
    """Read BUILD_INFO [1]. Raises: ServerFault when it is not what the contract says."""
    try:
        told = json.loads(bytes(tensor[0]))
        return {
            "build": str(told["build"]),
            # What knew one method did not name it.
            "method": str(told.get("method", AURALSAM2)),
            "classes": str(told.get("classes", "")),
            "text": str(told.get("text", "")),
            "target": str(told["target"]),
            "engine": str(told["engine"]),
            "precision": str(told["precision"]),
            "weights": str(told["weights"]),
            "trained_on": str(told["trained_on"]),
            "checkpoint_sha256": str(told["checkpoint_sha256"]),
            "conditioning_frame": str(int(told["conditioning_frame"])),
        }
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise ServerFault(f"The server says of its build {tensor!r}, which cannot be read. Export it again.") from error


def read_class_names(build: BuildInfo) -> tuple[str, ...]:
    """Name the classes of a build, in the order of their labels from 1. Raises: ServerFault as `read_build_info`."""
    try:
        return tuple(str(name) for name in json.loads(build["classes"] or "[]"))
    except (ValueError, TypeError) as error:
        raise ServerFault(f"The server names its classes {build['classes']!r}, which cannot be read.") from error


def knowledge_notes(
    build: BuildInfo | None, *, procedural: bool, share: float, use_audio: bool, says: bool = False
) -> tuple[str, ...]:
    """Say what weakens an answer, a line each.

    Args:
        build: what made it; None where the served build does not say.
        procedural: whether the clip is of the procedural world, by its header.
        share: of the pixels of all frames, those in masks, 0 to 1.
        use_audio: whether the sound was listened to; `says`: whether a text was read.
    """
    notes = []
    trained_on = "" if build is None else build["trained_on"]
    if trained_on == PROCEDURAL_WORLD and not procedural:
        notes.append(
            "the served weights know six shapes of a made-up world and nothing of real scenes; the file does not say"
            " that it is a video of that world (`auralsam2 weights` lists others)"
        )
    elif trained_on == NOTHING:
        notes.append("the served weights are untrained: the masks show that it runs, not what sounds")
    if share < LEAST_SHARE:
        found = "that is meant" if says else "that sounds" if use_audio else "that is marked"
        notes.append(f"masks cover {share:.2%} of all pixels: next to nothing {found} was found")
    return tuple(notes)
