"""The stage that sees the frames, in whichever of their two forms they come."""

from collections.abc import Mapping
from typing import Any

from auralsam2_client.contract import ENCODED_FRAMES, FRAMES

from ..engine import Array
from ..engine.refusals import BadRequest
from ..engine.stage import ClipStage
from .encoded import Decoding


def take_frames(given: Mapping[str, Any], encoded: Decoding) -> Any:
    """Take a clip's frames from a request's optional tensors: FRAMES as it is, FRAMES_ENCODED decoded.

    Raises: BadRequest where both or neither came, and for files that are not acceptable.
    """
    check_one_form(given)
    return given[FRAMES] if FRAMES in given else encoded.decode(given[ENCODED_FRAMES])


def check_one_form(given: Mapping[str, Any]) -> None:
    """Raise BadRequest unless the frames came in exactly one of their forms."""
    if (FRAMES in given) == (ENCODED_FRAMES in given):
        found = "both came" if FRAMES in given else "neither came"
        raise BadRequest(f"{FRAMES} (raw) and {ENCODED_FRAMES} (files): {found}; a clip has one of the two. Send one.")


class FramesStage:
    """Encodes the image. Tensors beside the frames are the stage's own inputs."""

    def __init__(self, stage: ClipStage, encoded: Decoding) -> None:
        self._stage, self._encoded = stage, encoded

    def __call__(self, inputs: Mapping[str, Array], given: Mapping[str, Array]) -> dict[str, Array]:
        """Raises: BadRequest as `take_frames`, and as Stage."""
        return self._stage({**inputs, FRAMES: take_frames(given, self._encoded)})
