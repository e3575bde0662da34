"""The fuser of a build with text: its graph takes the sound's tokens and the words' together."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from auralsam2_client.contract import AUDIO_TOKENS, MAX_WORDS, TOKENS

from ..engine import Array
from ..engine.stage import ClipStage, TensorShape
from ..prompts.reading import use_audio
from ..prompts.sentence import read_words


class ReadingStage:
    """Fuses what is heard and what is said. With neither it does no arithmetic and hands on zeros, which nobody reads.

    Where nothing is said, the words' tokens are those of nothing; where nothing is heard, the stage before gives the
    sound's tokens of silence.
    """

    def __init__(
        self, stage: ClipStage, outputs: Sequence[TensorShape], read: Callable[[Sequence[str]], Array]
    ) -> None:
        """`read`: gives the tokens [25, C] of words."""
        self._stage, self._read = stage, read
        self._silence = {tensor.name: np.zeros(tensor.shape, tensor.dtype) for tensor in outputs}

    def __call__(self, inputs: Mapping[str, Array], given: Mapping[str, Array]) -> dict[str, Array]:
        """Raises: BadRequest for bad text, and as Stage."""
        words = read_words(given)
        if not words and not use_audio(given):
            return self._silence
        return self._stage({**inputs, TOKENS: np.concatenate([inputs[AUDIO_TOKENS], self._read(words)])})


def tokens_input(sound: TensorShape) -> TensorShape:
    """Describe the graph's own input, from AUDIO_TOKENS [T, C]."""
    num_frames, channels = sound.shape
    return TensorShape(TOKENS, np.dtype(np.float32), (num_frames + MAX_WORDS, channels))
