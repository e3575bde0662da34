"""The golden requests of a build: every path is asked, and an answer that is not the network's is told by its path."""

from pathlib import Path

import numpy as np
import pytest

from auralsam2_client.calls.wire import Arrays
from auralsam2_client.contract import PROMPT_MODE
from service.builds.golden import Golden
from service.builds.golden_answer import WrongAnswer
from service.builds.golden_request import GoldenRequest, digest

MARKS = ("points", "box", "mask", "points+box")
PATHS = ("audio", *MARKS, *(f"audio+{marks}" for marks in MARKS), "session")


@pytest.fixture(scope="module")
def golden(small_build: Path) -> Golden:
    return Golden.load(small_build)


def right(request: GoldenRequest) -> list[Arrays]:
    """What the network answers."""
    return [{**asked.answer.reference, PROMPT_MODE: np.array(asked.mode)} for asked in request.rounds]


def test_every_path_that_answers_has_a_request(golden: Golden) -> None:
    assert tuple(request.path for request in golden.requests) == PATHS
    (session,) = (request for request in golden.requests if request.in_session)
    assert [asked.propagate for asked in session.rounds] == [True, False, True, True]
    assert [asked.mode for asked in session.rounds] == ["audio", "audio+points", "audio+points", "audio+points"]
    # A mark, its tracking and a correction are three answers, so that none stands for another.
    masks = [asked.answer.reference["MASK_LOGITS"].tobytes() for asked in session.rounds]
    assert len(set(masks)) == len(masks)


@pytest.mark.parametrize("path", PATHS)
def test_the_networks_answer_is_right_and_another_is_told_by_its_path(golden: Golden, path: str) -> None:
    request = next(each for each in golden.requests if each.path == path)
    assert request.check(right(request)) == 0
    for number, asked in enumerate(request.rounds):
        for name in asked.answer.reference:
            replies = right(request)
            moved = replies[number][name].copy()
            moved.flat[0] += 2 * asked.answer.tolerance[name]
            replies[number][name] = moved
            with pytest.raises(WrongAnswer, match=f"{name} is ") as raised:
                request.check(replies)
            assert raised.value.path == path
            told = f"{path}, round {number + 1}" if request.in_session else path
            assert str(raised.value).startswith(f"Golden clip by {told}: ")


def test_an_answer_by_something_else_is_wrong(golden: Golden) -> None:
    request = next(each for each in golden.requests if each.path == "audio+box")
    (reply,) = right(request)
    with pytest.raises(WrongAnswer, match=r"it was answered by audio, not by audio\+box"):
        request.check([reply | {PROMPT_MODE: np.array("audio")}])


def test_a_digest_is_of_all_rounds_in_order(golden: Golden) -> None:
    replies = right(golden.requests[-1])
    assert digest(replies) == digest([dict(reversed(reply.items())) for reply in replies])
    assert len({digest(replies), digest(replies[::-1]), digest(replies[:-1])}) == 3
