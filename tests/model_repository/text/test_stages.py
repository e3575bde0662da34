"""The fuser of a build with text: what its graph is given, when it rests, and what its reader needs."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from auralsam2_client.contract import AUDIO_TOKENS, MAX_WORDS, TOKENS, WORD_TOKENS, Parameter
from model_repository.stage_runtime.engine import EngineError, file_sha256
from model_repository.stage_runtime.engine.refusals import BadRequest
from model_repository.stage_runtime.engine.stage import TensorShape
from model_repository.stage_runtime.prompts.sentence import read_words
from model_repository.stage_runtime.prompts.stages import DecoderStage, SoundStage
from model_repository.stage_runtime.text.reader import Reader
from model_repository.stage_runtime.text.stages import ReadingStage, tokens_input
from tests.model_repository.prompted_stand_in import CLIP, StandIn, features, heard, points

T, C = 2, 4
FLOAT = np.dtype(np.float32)
SOUND = {AUDIO_TOKENS: np.full((T, C), 7, np.float32)}
NO_SOUND = {"USE_AUDIO": np.array([False])}


def text(*sentences: str | bytes) -> dict[str, Any]:
    encoded = [each.encode() if isinstance(each, str) else each for each in sentences]
    return {"TEXT": np.array(encoded, np.object_)}


class Graph:
    """Notes what it is given, and answers with ones."""

    def __init__(self, name: str, shape: tuple[int, ...] = (T, C)) -> None:
        self.given: list[Mapping[str, Any]] = []
        self._answer = {name: np.ones(shape, np.float32)}

    def __call__(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        self.given.append(inputs)
        return self._answer


def read(words: Sequence[str]) -> Any:
    """Tokens that tell by their value how many words there were."""
    return np.full((MAX_WORDS, C), len(words), np.float32)


def fuse(given: dict[str, Any]) -> tuple[Graph, dict[str, Any]]:
    graph = Graph("SOUND_1")
    return graph, ReadingStage(graph, [TensorShape("SOUND_1", FLOAT, (T, C))], read)(SOUND, given)


@pytest.mark.parametrize(
    ("given", "num_words"),
    [({}, 0), (text(""), 0), (text("a star"), 2), (text("a star") | NO_SOUND, 2), (text(" ?! "), 0)],
)
def test_words_stand_after_the_sound_whatever_is_said(given: dict[str, Any], num_words: int) -> None:
    graph, _ = fuse(given)
    (tokens,) = (inputs[TOKENS] for inputs in graph.given)
    assert tokens.shape == tokens_input(TensorShape(AUDIO_TOKENS, FLOAT, (T, C))).shape == (T + MAX_WORDS, C)
    assert tokens[:T].tolist() == SOUND[AUDIO_TOKENS].tolist()
    assert set(tokens[T:].flat) == {num_words}


@pytest.mark.parametrize("said", [{}, text(""), text("...")])
def test_without_sound_and_words_the_fuser_does_no_arithmetic(said: dict[str, Any]) -> None:
    graph, answer = fuse(said | NO_SOUND)
    assert graph.given == []
    assert not answer["SOUND_1"].any()


def test_words_without_sound_follow_a_silence_that_is_heard() -> None:
    graph = Graph(AUDIO_TOKENS)
    stage = SoundStage(graph, [TensorShape(AUDIO_TOKENS, FLOAT, (T, C))], CLIP)
    assert stage({}, NO_SOUND | points((1, 1, 1)))[AUDIO_TOKENS].tolist() == np.zeros((T, C)).tolist()
    assert graph.given == []
    sound = np.ones((T, 15600, 2), np.float32)
    assert stage({}, NO_SOUND | text("a star") | {"AUDIO": sound})[AUDIO_TOKENS].all()
    assert graph.given[0]["AUDIO"].shape == (T, 15600, 2)
    assert not graph.given[0]["AUDIO"].any()


BAD = {
    "too many words": (text("star " * 26), r"TEXT: text of 26 words; 25 are read\. Say it in fewer"),
    "no UTF-8": (text(b"a \xff star"), r"TEXT is no UTF-8: byte 0xff at 2\. Encode the sentence as UTF-8"),
    "several": (text("a star", "a ring"), r"TEXT is \[2\]; must be \[1\]: one sentence"),
}


@pytest.mark.parametrize("kind", BAD)
def test_the_first_stage_refuses_bad_text_before_any_work(kind: str) -> None:
    given, words = BAD[kind]
    graph = Graph(AUDIO_TOKENS)
    with pytest.raises(BadRequest, match=words):
        SoundStage(graph, [TensorShape(AUDIO_TOKENS, FLOAT, (T, C))], CLIP)({}, given)
    assert graph.given == []


def test_the_longest_sentence_is_read() -> None:
    assert read_words(text("star " * MAX_WORDS)) == ("star",) * MAX_WORDS
    assert read_words(text("Größte Scheibe!")) == ("grösste", "scheibe")
    assert read_words({}) == ()


@pytest.mark.parametrize(
    ("given", "mode", "by_graph"),
    [
        (text("a star"), b"audio+text", 1),
        (text(""), b"audio", 1),
        (text("a star") | NO_SOUND, b"text", 1),
        (text("a star") | NO_SOUND | points((1, 1, 1)), b"text+points", 1),
        (text("a star") | points((1, 1, 1)), b"audio+text+points", 1),
        (text("") | NO_SOUND | points((1, 1, 1)), b"points", 0),
    ],
)
def test_the_decoder_says_what_made_the_answer(given: dict[str, Any], mode: bytes, by_graph: int) -> None:
    calls: list[Any] = []

    def graph(inputs: Mapping[str, Any]) -> dict[str, Any]:
        calls.append(inputs)
        return heard(1)

    answer = DecoderStage(graph, StandIn(), CLIP)(features(1), given)
    assert answer["PROMPT_MODE"].tolist() == [mode]
    assert len(calls) == by_graph


def test_neither_sound_nor_words_nor_marks_is_refused() -> None:
    with pytest.raises(BadRequest, match="nothing says what to segment"):
        DecoderStage(lambda inputs: heard(1), StandIn(), CLIP)(features(1), NO_SOUND | text("..."))


def test_a_reader_numbers_words_by_the_builds_own_vocabulary() -> None:
    given: list[Any] = []

    class Encoder:
        def __call__(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
            given.append(inputs["WORD_NUMBERS"])
            return {WORD_TOKENS: np.zeros((MAX_WORDS, C), np.float32)}

    Reader(Encoder(), ["star", "the"])(("the", "green", "star"))  # type: ignore[arg-type]
    assert given[0].dtype == np.float32
    assert given[0].tolist() == [[3, 1, 2, *[0] * (MAX_WORDS - 3)]]


def test_altered_words_stop_the_start(tmp_path: Path) -> None:
    graph, words = tmp_path / "text_encoder.onnx", tmp_path / "vocabulary.json"
    graph.write_bytes(b"graph")
    words.write_text(json.dumps(["star"]))
    hashes = {
        Parameter.TEXT_ENCODER_SHA256.value: file_sha256(graph),
        Parameter.VOCABULARY_SHA256.value: file_sha256(words),
    }
    words.write_text(json.dumps(["ring"]))
    with pytest.raises(EngineError, match=r"vocabulary\.json: SHA-256 .* the file was altered"):
        Reader.load(tmp_path, hashes)
    words.unlink()
    with pytest.raises(EngineError, match=r"vocabulary\.json: no such"):
        Reader.load(tmp_path, hashes)
