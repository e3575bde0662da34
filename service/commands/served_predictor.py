"""A running server as predictor: what it answers for a whole clip of a data set."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from auralsam2_client.calls.client import Client
from auralsam2_client.errors import BadInput
from auralsam2_client.media.stills.frames import resize_frames

if TYPE_CHECKING:
    from auralsam2.evaluation.predictions import Predictor

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


@contextmanager
def serve_predictor(url: str | None, build: Path) -> "Iterator[tuple[Predictor, str, list[Any] | None]]":
    """Serve a predictor that asks the server at `url`, or one that is started on `build` and stopped at the end.

    Yields: the predictor, what it is in words, and what tells the build from others; None where only `url` is known.
    """
    from auralsam2.data.samples import Sample
    from auralsam2.evaluation.journal import identify
    from auralsam2.evaluation.predictions import Prediction
    from service.server.serving import serve_build

    identity = None
    with ExitStack() as stack:
        if url is None:
            url = stack.enter_context(serve_build(build)).config.grpc_url
            about, identity = f"server on {build}", [identify(build / "manifest.json")]
        else:
            about = f"server at {url}"
        client = stack.enter_context(Client(url, timeout_s=300.0))
        ask = ask_clip(client)

        def predict(sample: Sample) -> Prediction:
            return Prediction(*ask(sample.name, sample.frames, sample.windows_per_frame()))

        yield predict, about, identity
