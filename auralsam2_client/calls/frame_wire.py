"""How frames go to the server: raw, or as files, which are a tenth to a third as many bytes."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auralsam2_client.calls.wire import Arrays, ClipShape, clip_tensors
from auralsam2_client.contract import ENCODED_FRAMES, FRAMES
from auralsam2_client.errors import BadInput, ConfigError
from auralsam2_client.media.stills.frame_files import CODINGS, JPEG, encode_frames

AUTO, RAW = "auto", "raw"
WIRES = (AUTO, RAW, *CODINGS)
# From here on the wire costs more than coding does.
MIN_RAW_BYTES = 2_000_000


def check_wire(wire: str) -> None:
    """Raise BadInput for a name that is none of `WIRES`."""
    if wire not in WIRES:
        raise BadInput(f"wire = {wire!r}; must be one of {', '.join(WIRES)}.")


def choose_wire(wire: str, shape: ClipShape) -> str:
    """Choose the form of the frames: "raw", "jpeg" or "lossless".

    "auto" is "jpeg" where the raw clip has over 2 MB and the build was measured to give the same masks by JPEG (an IoU
    of at least 0.995 at export), else "raw".

    Raises: ConfigError when files were asked for and the served build takes none.
    """
    if wire == AUTO:
        raw_bytes = 3 * shape.num_frames * shape.image_size**2
        return JPEG if shape.jpeg_keeps_masks and raw_bytes > MIN_RAW_BYTES else RAW
    if wire != RAW and not shape.takes_files:
        raise ConfigError(
            f"wire = {wire!r}, and the served build takes raw frames alone: it is one for GPUs, or of an earlier"
            ' version. Serve one that was exported with --target cpu or cuda, or take wire="raw".'
        )
    return wire


def coded_clip_tensors(
    frames: NDArray[np.uint8], audio: NDArray[np.float32], prompts: Mapping[str, NDArray[Any]], wire: str
) -> Arrays:
    """Name the tensors of a clip and of its prompts; where `wire` is not "raw", its frames are files."""
    tensors = clip_tensors(frames, audio, prompts)
    if wire != RAW:
        del tensors[FRAMES]
        tensors[ENCODED_FRAMES] = encode_frames(frames, wire)
    return tensors
