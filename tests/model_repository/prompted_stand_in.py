"""A decoder with PromptedDecoder's interface and arithmetic that a test can predict, and a clip's features for it.

The logits of a clip are its own number, plus what every prompt adds: a test sees at once whose features and whose
prompts an answer was made from.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from auralsam2_client.contract import PADDING, point_tensors
from model_repository.stage_runtime.prompts.memory import Kept
from model_repository.stage_runtime.prompts.reading import ClipSize, Prompt

T, S, SIDE = 3, 32, 8
KEPT_BYTES = 1000
CLIP = ClipSize(T, S, 1)

Array = npt.NDArray[np.float32]


def features(number: float) -> dict[str, Array]:
    return {
        "HIGH_RES_S4": np.full((T, 4, SIDE, SIDE), number, np.float32),
        "HIGH_RES_S8": np.full((T, 8, SIDE // 2, SIDE // 2), number, np.float32),
        "IMAGE_EMBEDDING": np.full((T, 32, SIDE // 4, SIDE // 4), number, np.float32),
    }


def answer(logits: Array, iou: float) -> dict[str, Array]:
    return {
        "MASK_LOGITS": logits,
        "CANDIDATE_LOGITS": np.stack([logits] * 3, axis=1),
        "IOU": np.full((T, 3), iou, np.float32),
        "OBJECT_SCORE": logits[:, 0, 0].copy(),
    }


def heard(number: float) -> dict[str, Array]:
    return answer(np.full((T, SIDE, SIDE), -number, np.float32), 0.25)


class StandIn:
    """Logits of frame t: the clip's number, the sums of coordinates times labels, and a tenth of what is fed back."""

    def __init__(self) -> None:
        self.calls: list[list[Prompt]] = []
        self.alone_calls = 0
        self.kept: list[Kept | None] = []

    def keep(self) -> Kept:
        return Kept(KEPT_BYTES)

    def __call__(
        self, clip: Mapping[str, Array], prompts: Sequence[Prompt], kept: Kept | None = None
    ) -> dict[str, Array]:
        self.calls.append(list(prompts))
        self.kept.append(kept)
        logits = np.array(clip["HIGH_RES_S4"][:, 0])
        for prompt in prompts:
            assert PADDING not in prompt.labels, "a prompt is padded at the graph alone"
            logits += np.float32((prompt.coords.sum(axis=1) * (prompt.labels + 1)).sum())
            if prompt.mask is not None:
                logits += prompt.mask
            if prompt.previous is not None:
                logits[prompt.frame] += prompt.previous / 10
        return answer(logits, 0.75)

    def alone(self, clip: Mapping[str, Array], prompt: Prompt) -> dict[str, Array]:
        frame = slice(prompt.frame, prompt.frame + 1)
        found = {name: value[frame] for name, value in self(clip, [prompt]).items()}
        self.alone_calls += 1
        return found


def points(*placed: tuple[float, float, int], frame: int | None = None, step: int | None = None) -> dict[str, Array]:
    """The wire's tensors of points (x, y, label)."""
    coords, labels = [(x, y) for x, y, _ in placed], [label for *_, label in placed]
    tensors = point_tensors(np.reshape(np.array(coords, np.float32), (-1, 2)), np.array(labels, np.int32))
    if frame is not None:
        tensors["PROMPT_FRAME"] = np.array([frame], np.int32)
    if step is not None:
        tensors["STEP"] = np.array([step], np.int32)
    return tensors
