"""Stages that know prompts: those of the sound, which rest when it is switched off, and the decoder."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from auralsam2_client.contract import AUDIO, BY_SOUND, ENCODED_FRAMES, IMAGE_FEATURES, PROMPT_MODE, WINDOW_SAMPLES

from ..engine import Array, Engine
from ..engine.full_scale import check_full_scale, check_sound_came
from ..engine.refusals import BadRequest
from ..engine.stage import ClipStage, TensorShape
from ..forms.masks import in_form
from ..forms.wish import read_wish
from ..frames.encoded import EncodedFrames
from .combination import combine
from .reading import NOTHING_TO_GO_BY, Asked, ClipSize, Prompt, kinds, mode_of, read_prompts, use_audio
from .sentence import read_words

Decoder = Callable[[Mapping[str, Array], Sequence[Prompt]], dict[str, Array]]


def mode_tensor(mode: str) -> Array:
    """Encode PROMPT_MODE as the server takes a text."""
    return np.array([mode.encode()], dtype=np.object_)


class SoundStage:
    """A stage of the sound. With USE_AUDIO false it does no arithmetic and hands on zeros, which nobody reads.

    But where words say what is meant, which stand after the tokens of a sound: then it gives those of silence.
    """

    def __init__(
        self,
        stage: ClipStage,
        outputs: Sequence[TensorShape],
        clip: ClipSize | None = None,
        encoded: EncodedFrames | None = None,
    ) -> None:
        """`clip` and `encoded`: given to the first stage, which refuses bad prompts and files before any work, and to
        which AUDIO comes among the optional tensors.
        """
        self._stage = stage
        self._clip, self._encoded = clip, encoded
        self._silence = {tensor.name: np.zeros(tensor.shape, tensor.dtype) for tensor in outputs}

    def __call__(self, inputs: Mapping[str, Array], prompts: Mapping[str, Array]) -> dict[str, Array]:
        """Raises: BadRequest for bad prompts and files, and for sound that is missing or in another scale; as Stage."""
        prompts = dict(prompts)
        files = prompts.pop(ENCODED_FRAMES, None)
        if AUDIO in prompts:
            inputs = {**inputs, AUDIO: prompts.pop(AUDIO)}
        if self._clip is not None and prompts:
            read_prompts(prompts, self._clip)
            read_wish(prompts)
        if self._encoded is not None and files is not None:
            self._encoded.check(files)
        if not use_audio(prompts):
            return self._of_silence() if read_words(prompts) else self._silence
        if self._clip is not None:
            check_sound_came(inputs)
        check_full_scale(inputs)
        return self._stage(inputs)

    def _of_silence(self) -> dict[str, Array]:
        num_frames = next(iter(self._silence.values())).shape[0]
        return self._stage({AUDIO: np.zeros((num_frames, WINDOW_SAMPLES, 2), np.float32)})


class DecoderStage:
    """The masks: by sound, by prompts, or by both, from a clip's image features, in the form that is asked for."""

    def __init__(
        self,
        stage: ClipStage,
        decoder: Decoder,
        clip: ClipSize,
        prompt_features: Sequence[str] = IMAGE_FEATURES,
        class_head: Engine | None = None,
    ) -> None:
        """`prompt_features`: what prompts are decoded from, in the order of IMAGE_FEATURES. `class_head`: names what
        is in the masks, of builds with classes.
        """
        self._class_head = class_head
        self._prompt_features = dict(zip(IMAGE_FEATURES, prompt_features, strict=True))
        self._stage = stage
        self._decoder = decoder
        self._clip = clip
        self._by_sound = mode_tensor(BY_SOUND)

    def __call__(self, inputs: Mapping[str, Array], prompts: Mapping[str, Array]) -> dict[str, Array]:
        """Raises: BadRequest for bad prompts, for neither sound nor prompts, and as Stage."""
        asked, wish = read_prompts(prompts, self._clip), read_wish(prompts)
        answer = self._answer(asked, inputs)
        if self._class_head is not None:
            known = {**inputs, **answer}
            answer |= self._class_head({name: known[name] for name in self._class_head.input_shapes})
        return in_form(answer, wish)

    def _answer(self, asked: Asked, inputs: Mapping[str, Array]) -> dict[str, Array]:
        fused = asked.use_audio or asked.says
        if asked.prompt is None:
            if not fused:
                raise BadRequest(NOTHING_TO_GO_BY)
            mode = mode_tensor(mode_of(asked.use_audio, set(), asked.says)) if asked.says else self._by_sound
            return self._stage(inputs) | {PROMPT_MODE: mode}
        # An answer of the engine is its own memory, and the decoder's graphs are other engines.
        heard = self._stage(inputs) if fused else None
        features = {name: inputs[given] for name, given in self._prompt_features.items()}
        answer: dict[str, Any] = self._decoder(features, [asked.prompt])
        if heard is not None:
            answer = combine(heard, answer, asked.rule)
        return {**answer, PROMPT_MODE: mode_tensor(mode_of(asked.use_audio, kinds(asked.prompt), asked.says))}
