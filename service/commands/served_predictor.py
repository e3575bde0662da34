"""A running server as predictor: what it answers for a whole clip of a data set."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from auralsam2_client.calls.client import Client
from auralsam2_client.errors import BadInput
from auralsam2_client.media.frames import resize_frames

OUTPUTS = ("CANDIDATE_LOGITS", "IOU", "OBJECT_SCORE")
ServedAnswer = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]
"""Candidate logits [T, 3, S/4, S/4], predicted IoU [T, 3], object score [T]."""


def ask_clip(client: Client) -> Callable[[str, NDArray[np.uint8], NDArray[np.float32]], ServedAnswer]:
    """Make a function of a clip's name, frames [T, H, W, 3] and sound windows [T, 15600, 2].

    Raises (when called): BadInput when the clip is not as long as the served model's; all that the client raises.
    """

    def ask(name: str, frames: NDArray[np.uint8], windows: NDArray[np.float32]) -> ServedAnswer:
        if len(frames) != client.num_frames:
            raise BadInput(
                f"{name}: {len(frames)} frames, but the server takes clips of {client.num_frames}. Export a build with"
                f" --num-frames {len(frames)}."
            )
        # Decoded sound may overshoot a little; the wire takes [-1, 1].
        answer = client.infer(resize_frames(frames, client.image_size), np.clip(windows, -1, 1), outputs=OUTPUTS)
        return answer["CANDIDATE_LOGITS"], answer["IOU"], answer["OBJECT_SCORE"]

    return ask
