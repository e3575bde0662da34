"""Stages that know prompts: the sound's rest when it is off, and the decoder answers by sound, prompts, or both."""

from typing import Any

import numpy as np
import pytest

from auralsam2_client.contract import PROMPT_MODE
from model_repository.stage_runtime.engine.refusals import BadRequest
from model_repository.stage_runtime.engine.stage import TensorShape
from model_repository.stage_runtime.prompts.combination import combine
from model_repository.stage_runtime.prompts.stages import DecoderStage, SoundStage
from tests.model_repository.prompted_stand_in import CLIP, SIDE, StandIn, features, heard, points

NO_SOUND = {"USE_AUDIO": np.array([False])}
TOKENS = [TensorShape("TOKENS", np.dtype(np.float32), (3, 4))]


class Graph:
    """A stage that counts its calls."""

    def __init__(self, answer: dict[str, Any]) -> None:
        self.calls = 0
        self._answer = answer

    def __call__(self, inputs: Any) -> dict[str, Any]:
        self.calls += 1
        return self._answer


def test_without_sound_a_stage_of_the_sound_does_no_arithmetic() -> None:
    graph = Graph({"TOKENS": np.ones((3, 4), np.float32)})
    stage = SoundStage(graph, TOKENS)  # type: ignore[arg-type]
    silent = stage({}, NO_SOUND)["TOKENS"]
    assert graph.calls == 0
    assert (silent.shape, silent.dtype, silent.any()) == ((3, 4), np.float32, False)
    for prompts in ({}, {"USE_AUDIO": np.array([True])}, points((1, 1, 1))):
        assert stage({}, prompts)["TOKENS"].all()
    assert graph.calls == 3


def test_the_first_stage_refuses_bad_prompts_before_any_work() -> None:
    graph = Graph({})
    stage = SoundStage(graph, TOKENS, CLIP)  # type: ignore[arg-type]
    for bad in (points((1, 99, 1)), {"COMBINATION": np.array([7], np.int32)}):
        with pytest.raises(BadRequest):
            stage({}, bad)
    assert graph.calls == 0
    with pytest.raises(BadRequest, match="AUDIO did not come"):
        stage({}, points((1, 1, 1)))
    assert graph.calls == 0
    stage({}, {**points((1, 1, 1)), "AUDIO": np.zeros((2, 3), np.float32)})
    assert graph.calls == 1


@pytest.fixture
def by_sound() -> Graph:
    return Graph(heard(1))


def answer(by_sound: Graph, prompts: dict[str, Any]) -> tuple[dict[str, Any], StandIn]:
    decoder = StandIn()
    found = DecoderStage(by_sound, decoder, CLIP)(features(1), prompts)  # type: ignore[arg-type]
    return found, decoder


@pytest.mark.parametrize("prompts", [{}, {"USE_AUDIO": np.array([True])}, points()])
def test_without_prompts_the_answer_is_that_of_the_graph(by_sound: Graph, prompts: dict[str, Any]) -> None:
    found, decoder = answer(by_sound, prompts)
    assert bytes(found[PROMPT_MODE][0]) == b"audio"
    assert not decoder.calls
    for name, value in heard(1).items():
        np.testing.assert_array_equal(found[name], value)


@pytest.mark.parametrize(
    ("prompts", "mode"),
    [
        (points((1, 1, 1)), b"points"),
        (points((1, 1, 2), (3, 3, 3)), b"box"),
        (points((1, 1, 2), (3, 3, 3), (2, 2, 0)), b"points+box"),
        ({"MASK_INPUT": np.ones((SIDE, SIDE), np.float32)}, b"mask"),
    ],
)
def test_prompts_alone_and_beside_the_sound(by_sound: Graph, prompts: dict[str, Any], mode: bytes) -> None:
    alone, decoder = answer(by_sound, prompts | NO_SOUND)
    assert by_sound.calls == 0
    assert bytes(alone[PROMPT_MODE][0]) == mode
    both, _ = answer(by_sound, prompts)
    assert by_sound.calls == 1
    assert bytes(both[PROMPT_MODE][0]) == b"audio+" + mode
    assert [prompt.frame for prompt in decoder.calls[0]] == [CLIP.conditioning_frame]
    for name, value in combine(heard(1), StandIn()(features(1), decoder.calls[0]), "mean").items():
        np.testing.assert_array_equal(both[name], value)


def test_the_rule_is_the_requests(by_sound: Graph) -> None:
    union, _ = answer(by_sound, points((1, 1, 1)) | {"COMBINATION": np.array([2], np.int32)})
    mean, _ = answer(by_sound, points((1, 1, 1)))
    assert (union["MASK_LOGITS"] > mean["MASK_LOGITS"]).all()


def test_neither_sound_nor_prompts_is_refused(by_sound: Graph) -> None:
    with pytest.raises(BadRequest, match=r"nothing says what to segment. Send POINT_COORDS"):
        answer(by_sound, NO_SOUND)
