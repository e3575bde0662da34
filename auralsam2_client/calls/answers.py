"""The form in which masks come back: what a request says of it, and how an answer in it is read."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auralsam2_client.calls.wire import Arrays, ClipShape
from auralsam2_client.contract import ANSWERS, MAX_OUTPUT_SIDE, RESULTS, USUAL_RESULTS
from auralsam2_client.errors import BadInput, ConfigError
from auralsam2_client.masks import Rle

LOGITS = next(iter(ANSWERS))
CANDIDATES = RESULTS[1]
# Masks of both logits are one form, and without candidates another.
_OF_OUTPUT = {name: form for form, name in ANSWERS.items()} | {CANDIDATES: "candidates"}


def outputs_of(answer: str) -> tuple[str, ...]:
    """Name the outputs to ask for. Raises: BadInput for a form that is not in ANSWERS."""
    if answer not in ANSWERS:
        raise BadInput(f"answer = {answer!r}; must be one of {', '.join(ANSWERS)}.")
    return (ANSWERS[answer], *USUAL_RESULTS[1:])


def wish_tensors(outputs: Sequence[str], shape: ClipShape, size: tuple[int, int] | None = None) -> Arrays:
    """Say in which form the masks are wanted, and that no candidates are where none are asked for.

    Args:
        size: height and width of the masks in the form "rle".
    Raises: BadInput for outputs of two forms, or too large a size; ConfigError for a build that gives logits alone.
    """
    forms = list(dict.fromkeys(_OF_OUTPUT[name] for name in outputs if name in _OF_OUTPUT))
    if CANDIDATES in outputs:
        # Both logits come where nothing is said.
        forms = [form for form in forms if form != LOGITS]
    if len(forms) > 1:
        raise BadInput(f"outputs = {list(outputs)!r} are masks in {len(forms)} forms; an answer has one. Ask twice.")
    form = forms[0] if forms else LOGITS
    if not shape.takes_answer:
        if form in ANSWERS and form != LOGITS:
            raise ConfigError(
                f"The served build gives masks as logits alone, not as {form!r}: it is one for TensorRT or ONNX Runtime"
                f" on a GPU, or of an earlier version. Leave answer at {LOGITS!r}, or export it again."
            )
        return {}
    if form not in ANSWERS:
        return {}
    tensors: Arrays = {"ANSWER": np.array([list(ANSWERS).index(form)], np.int32)}
    if form == "rle" and size is not None:
        if max(size) > MAX_OUTPUT_SIDE:
            raise BadInput(f"The frames are {size[0]} x {size[1]} px; RLE comes up to {MAX_OUTPUT_SIDE} a side.")
        tensors["OUTPUT_SIZE"] = np.array(size, np.int32)
    return tensors


def read_logits(answer: Arrays, num_frames: int) -> NDArray[np.float32]:
    """Read an answer's masks as logits [N, S/4, S/4]; of bits, 1 inside and -1 outside; of RLE, [N, 0, 0]."""
    if "MASK_LOGITS" in answer:
        return answer["MASK_LOGITS"][:num_frames]
    if "MASK_LOGITS_FP16" in answer:
        return answer["MASK_LOGITS_FP16"][:num_frames].astype(np.float32)
    if "MASK_BITS" in answer:
        bits = answer["MASK_BITS"][:num_frames]
        inside = np.unpackbits(bits, axis=-1, count=bits.shape[1])
        return np.where(inside, np.float32(1), np.float32(-1))
    return np.zeros((num_frames, 0, 0), np.float32)


def read_rles(answer: Arrays, num_frames: int, height: int, width: int) -> tuple[Rle, ...]:
    """Read an answer's masks in the form "rle", of the size that was asked for; none in another."""
    counts: Any = answer.get("MASK_RLE", np.empty(0, np.object_))[:num_frames]
    return tuple({"size": [height, width], "counts": bytes(each).decode("ascii")} for each in counts)
