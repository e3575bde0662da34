"""Words to tokens: the numbers of the build's vocabulary, and the text encoder's graph."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from auralsam2_client.contract import TEXT_ENCODER, VOCABULARY, WORD_NUMBERS, WORD_TOKENS, Parameter
from auralsam2_client.words import number_vocabulary, number_words

from ..engine import Array, Engine, EngineError, cache_dir_from_environment, check_hash, load_engine


class Reader:
    """Words, at most 25, -> their tokens [25, C] float32, valid until the next call; no words: those of nothing."""

    def __init__(self, engine: Engine, vocabulary: Sequence[str]) -> None:
        self._engine, self._numbers = engine, number_vocabulary(vocabulary)

    @classmethod
    def load(cls, folder: Path, parameters: Mapping[str, str]) -> "Reader":
        """Load what reads from `folder`, each file checked against its hash.

        Raises: EngineError when a file is missing or altered, or holds no words, or the engine refuses.
        """
        graph, words = folder / f"{TEXT_ENCODER}.onnx", folder / f"{VOCABULARY}.json"
        check_hash(graph, parameters[Parameter.TEXT_ENCODER_SHA256])
        check_hash(words, parameters[Parameter.VOCABULARY_SHA256])
        engine = load_engine(
            parameters[Parameter.ENGINE],
            graph,
            precision=parameters[Parameter.PRECISION],
            cache_dir=cache_dir_from_environment(),
        )
        vocabulary = json.loads(words.read_text())
        if not isinstance(vocabulary, list) or not all(isinstance(word, str) for word in vocabulary):
            raise EngineError(f"{words.name} is no list of words. Write it again with: auralsam2 export")
        return cls(engine, vocabulary)

    def __call__(self, words: Sequence[str]) -> Array:
        numbers = np.array([number_words(words, self._numbers)], np.float32)
        tokens: Array = self._engine({WORD_NUMBERS: numbers})[WORD_TOKENS]
        return tokens
