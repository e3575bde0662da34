"""What a clip can be asked with, as one table: the rows of the paper's Table 1 that are this service."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import tritonclient.grpc as blocking
from numpy.typing import NDArray

from auralsam2_client.calls.frame_wire import RAW, coded_clip_tensors
from auralsam2_client.calls.wire import Call, encode_request
from auralsam2_client.contract import COMBINATIONS, ENSEMBLE, USUAL_RESULTS, prompt_tensors
from auralsam2_client.errors import BadInput
from auralsam2_client.prompts import Point, Prompts, frame_prompt, setting_tensors
from loadtests.generator.clips import Clip

Prepared = tuple[list[Any], list[Any]]

# Where prompts stand, as shares of the frame. What they mark makes no difference to the work.
BOX = (0.3, 0.3, 0.7, 0.7)
POINTS = ((0.4, 0.4), (0.6, 0.4), (0.6, 0.6), (0.4, 0.6))


@dataclass(frozen=True)
class Mode:
    """One prompt setting. `prompts` is the label that the service's metrics carry, and the paper's word in its tables.

    Points are four, as in the paper, all of them on the object.
    """

    prompts: str
    model: str = ENSEMBLE

    @property
    def kinds(self) -> set[str]:
        return set(self.prompts.split("+"))

    def tensors(self, image_size: int) -> dict[str, NDArray[Any]]:
        """Make the tensors that go with the clip; none for sound alone."""
        kinds = self.kinds
        if kinds == {"audio"}:
            return {}
        points: list[Point] = [(x * image_size, y * image_size, "+") for x, y in POINTS]
        x0, y0, x1, y1 = (share * image_size for share in BOX)
        mask = np.zeros((image_size, image_size), np.bool_)
        mask[int(y0) : int(y1), int(x0) : int(x1)] = True
        prompts = Prompts(
            points if "points" in kinds else (),
            (x0, y0, x1, y1) if "box" in kinds else None,
            mask if "mask" in kinds else None,
        )
        marked = prompt_tensors(frame_prompt(prompts, 1, image_size, image_size, image_size))
        return marked | setting_tensors("audio" in kinds, COMBINATIONS[0])

    def prepare(self, clip: Clip, wire: str = RAW) -> Prepared:
        """Prepare the inputs and wanted outputs of a clip, frames raw or as files; they are sent again and again."""
        marks = self.tensors(clip.frames.shape[1])
        tensors = coded_clip_tensors(clip.frames, clip.audio, marks, wire)
        return encode_request(blocking, Call(tensors, USUAL_RESULTS))


MODES = {prompts: Mode(prompts) for prompts in ("audio", "points", "box", "mask", "points+box", "audio+points+box")}


def find_mode(prompts: str) -> Mode:
    """Find a mode by its name. Raises: BadInput for a mode that is unknown."""
    if prompts not in MODES:
        raise BadInput(f"mode = {prompts!r}; must be one of {', '.join(MODES)}.")
    return MODES[prompts]
