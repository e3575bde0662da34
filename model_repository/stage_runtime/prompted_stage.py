"""Stages that know prompts: those of the sound, which rest when it is switched off, and the decoder."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .combination import combine
from .engine import Array
from .prompt_tensors import ClipSize, Marks, mode_of, read_marks, rule_of, use_audio
from .prompted import FramePrompt
from .stage import BadRequest, Stage, TensorShape

PROMPT_MODE = "PROMPT_MODE"
FEATURES = ("HIGH_RES_S4", "HIGH_RES_S8", "IMAGE_EMBEDDING")

Decoder = Callable[[Mapping[str, Array], Sequence[FramePrompt]], dict[str, Array]]


def frame_prompt(marks: Marks, previous: Array | None = None) -> FramePrompt:
    """`marks` as the decoder takes them; `previous`: [S/4, S/4] logits of an earlier round on this frame."""
    coords, labels = marks.padded()
    return FramePrompt(marks.frame, coords, labels, mask=marks.mask, previous=previous)


def mode_tensor(mode: str) -> Array:
    """PROMPT_MODE, as the server takes a text."""
    return np.array([mode.encode()], dtype=np.object_)


class SoundStage:
    """A stage of the sound. With USE_AUDIO false it does no arithmetic and hands on zeros, which nobody reads."""

    def __init__(self, stage: Stage, outputs: Sequence[TensorShape], clip: ClipSize | None = None) -> None:
        """`clip`: given to the first stage of the chain, which refuses bad prompts before any work is done."""
        self._stage = stage
        self._clip = clip
        self._silence = {tensor.name: np.zeros(tensor.shape, tensor.dtype) for tensor in outputs}

    def __call__(self, inputs: Mapping[str, Array], prompts: Mapping[str, Array]) -> dict[str, Array]:
        """Raises: BadRequest for bad prompts, and as Stage."""
        if self._clip is not None and prompts:
            read_marks(prompts, self._clip)
            rule_of(prompts)
        return self._stage(inputs) if use_audio(prompts) else self._silence


class DecoderStage:
    """The masks: by sound, by prompts, or by both, from the same image features."""

    def __init__(self, stage: Stage, decoder: Decoder, clip: ClipSize) -> None:
        self._stage = stage
        self._decoder = decoder
        self._clip = clip
        self._by_sound = mode_tensor("audio")

    def __call__(self, inputs: Mapping[str, Array], prompts: Mapping[str, Array]) -> dict[str, Array]:
        """Raises: BadRequest for bad prompts, for neither sound nor prompts, and as Stage."""
        if not prompts:
            return self._stage(inputs) | {PROMPT_MODE: self._by_sound}
        marks, rule, sound = read_marks(prompts, self._clip), rule_of(prompts), use_audio(prompts)
        if marks is None:
            if not sound:
                raise BadRequest(NOTHING_TO_GO_BY)
            return self._stage(inputs) | {PROMPT_MODE: self._by_sound}
        # An answer of the engine is its own memory, and the decoder's graphs are other engines.
        heard = self._stage(inputs) if sound else None
        answer: dict[str, Any] = self._decoder({name: inputs[name] for name in FEATURES}, [frame_prompt(marks)])
        if heard is not None:
            answer = combine(heard, answer, rule)
        return {**answer, PROMPT_MODE: mode_tensor(mode_of(sound, marks.kinds))}


NOTHING_TO_GO_BY = (
    "USE_AUDIO is false and there is no prompt, so that nothing says what to segment. Send POINT_COORDS and"
    " POINT_LABELS or MASK_INPUT, or leave USE_AUDIO out."
)
