"""Rounds of one session, on arithmetic: marks accumulate, logits are fed back, as SAM2's predictor does."""

from typing import Any

import numpy as np
import pytest

from auralsam2_client.contract import PROMPT_MODE
from model_repository.stage_runtime.engine.refusals import BadRequest
from model_repository.stage_runtime.prompts.combination import LOGIT_LIMIT, combine
from model_repository.stage_runtime.prompts.reading import read_round
from model_repository.stage_runtime.sessions.rounds import Session
from tests.model_repository.prompted_stand_in import CLIP, KEPT_BYTES, SIDE, StandIn, features, heard, points

BOX = ((3.0, 4.0, 2), (20.0, 30.0, 3))
NO_SOUND = {"USE_AUDIO": np.array([False])}


@pytest.fixture
def decoder() -> StandIn:
    return StandIn()


@pytest.fixture
def session(decoder: StandIn) -> Session:
    return Session(features(1), heard(1), decoder, CLIP)


def mode(answer: dict[str, Any]) -> str:
    return bytes(answer[PROMPT_MODE][0]).decode()


def answer_of(session: Session, tensors: dict[str, Any]) -> dict[str, Any]:
    return session.round(read_round(tensors, CLIP))


def used(prompt: Any) -> list[tuple[float, float, int]]:
    return [(float(x), float(y), int(label)) for (x, y), label in zip(prompt.coords, prompt.labels, strict=True)]


def test_without_prompts_the_answer_is_that_of_the_sound(session: Session, decoder: StandIn) -> None:
    answer = answer_of(session, {})
    assert mode(answer) == "audio"
    np.testing.assert_array_equal(answer["MASK_LOGITS"], heard(1)["MASK_LOGITS"])
    assert not decoder.calls


@pytest.mark.parametrize("rule", ["mean", "best_iou", "union"])
def test_sound_and_prompts_are_combined_by_the_rule(session: Session, rule: str) -> None:
    number = {"mean": 0, "best_iou": 1, "union": 2}[rule]
    answer = answer_of(session, points((1, 1, 1)) | {"COMBINATION": np.array([number], np.int32)})
    decoder = StandIn()
    answer_of(Session(features(1), None, decoder, CLIP), points((1, 1, 1)) | NO_SOUND)
    prompted = StandIn()(features(1), decoder.calls[0])
    wanted = combine(heard(1), prompted, rule)
    assert mode(answer) == "audio+points"
    for name, value in wanted.items():
        np.testing.assert_array_equal(answer[name], value)


def test_points_of_a_frame_add_up_and_what_was_made_of_it_is_fed_back(session: Session, decoder: StandIn) -> None:
    answer_of(session, points((1, 2, 1), frame=0) | NO_SOUND)
    first = answer_of(session, points((3, 4, 0), frame=0) | NO_SOUND)
    assert used(decoder.calls[0][0]) == [(1, 2, 1)]
    assert decoder.calls[0][0].previous is None
    assert used(decoder.calls[1][0]) == [(1, 2, 1), (3, 4, 0)]
    # The first round made 1 + (1 + 2) * 2 of every frame.
    np.testing.assert_array_equal(decoder.calls[1][0].previous, np.full((SIDE, SIDE), 7, np.float32))
    assert mode(first) == "points"


def test_what_is_fed_back_is_clamped(decoder: StandIn) -> None:
    session = Session(features(1000), None, decoder, CLIP)
    answer_of(session, points((1, 1, 1)) | NO_SOUND)
    answer_of(session, points((1, 1, 0)) | NO_SOUND)
    assert decoder.calls[1][0].previous.max() == LOGIT_LIMIT == 32


def test_a_frame_that_was_only_tracked_to_feeds_back_as_well(session: Session, decoder: StandIn) -> None:
    answer_of(session, points((1, 2, 1), frame=0) | NO_SOUND)
    answer_of(session, points((3, 4, 1), frame=2) | NO_SOUND)
    earlier, later = decoder.calls[1]
    assert (earlier.frame, later.frame) == (0, 2)
    assert earlier.previous is None, "the frame of the first round is decoded as it was then"
    assert later.previous is not None
    answer_of(session, points((5, 5, 1), frame=0) | NO_SOUND)
    assert decoder.calls[2][1].previous is later.previous


def test_a_box_or_a_mask_restarts_its_frame_and_so_do_clicks_after_a_mask(session: Session, decoder: StandIn) -> None:
    mask = {"MASK_INPUT": np.ones((SIDE, SIDE), np.float32)} | NO_SOUND
    answer_of(session, points((1, 2, 1)) | NO_SOUND)
    assert mode(answer_of(session, points(*BOX) | NO_SOUND)) == "box"
    assert used(decoder.calls[1][0]) == list(BOX)
    assert mode(answer_of(session, points((5, 6, 0)) | NO_SOUND)) == "points+box"
    assert used(decoder.calls[2][0]) == [*BOX, (5, 6, 0)]
    assert mode(answer_of(session, mask)) == "mask"
    assert decoder.calls[3][0].previous is None
    assert used(decoder.calls[3][0]) == []
    assert mode(answer_of(session, points((7, 8, 1)) | NO_SOUND)) == "points"
    assert used(decoder.calls[4][0]) == [(7, 8, 1)]
    assert decoder.calls[4][0].mask is None
    assert decoder.calls[4][0].previous is not None, "what was made of the mask guides the clicks after it"


def test_a_conflicting_click_and_its_correction(session: Session, decoder: StandIn) -> None:
    """A click on a silent object, then one that takes it back: both stay, in order, and the sound is in each answer."""
    conflicting = answer_of(session, points((1, 1, 1)))
    corrected = answer_of(session, points((1, 1, 0)))
    assert used(decoder.calls[1][0]) == [(1, 1, 1), (1, 1, 0)]
    assert mode(conflicting) == mode(corrected) == "audio+points"
    assert not np.array_equal(conflicting["MASK_LOGITS"], corrected["MASK_LOGITS"])


def test_a_round_that_is_repeated_gets_the_same_answer_and_counts_once(session: Session, decoder: StandIn) -> None:
    answer_of(session, {"STEP": np.array([0], np.int32)})
    first = answer_of(session, points((1, 2, 1), step=1))
    again = answer_of(session, points((1, 2, 1), step=1))
    assert len(decoder.calls) == 1
    for name, value in first.items():
        np.testing.assert_array_equal(again[name], value)
    with pytest.raises(BadRequest, match=r"STEP 1 was answered already, for other prompts. The next one is 2"):
        answer_of(session, points((3, 3, 1), step=1))
    with pytest.raises(BadRequest, match=r"STEP is 5, but this session is at 1: the next one is 2"):
        answer_of(session, points((3, 3, 1), step=5))
    answer_of(session, points((3, 4, 1), step=2))
    assert used(decoder.calls[1][0]) == [(1, 2, 1), (3, 4, 1)]


def test_a_round_that_is_refused_changes_nothing(session: Session, decoder: StandIn) -> None:
    answer_of(session, points((1, 2, 1)))
    with pytest.raises(BadRequest):
        answer_of(session, points((1, 99, 1)))
    answer_of(session, points((3, 4, 1), step=1))
    assert used(decoder.calls[1][0]) == [(1, 2, 1), (3, 4, 1)]


def test_a_decoder_that_fails_leaves_the_session_as_it_was(session: Session, decoder: StandIn) -> None:
    answer_of(session, points((1, 2, 1)))
    session._decoder = lambda clip, prompts, kept: (_ for _ in ()).throw(RuntimeError("engine"))
    with pytest.raises(RuntimeError, match="engine"):
        answer_of(session, points((9, 9, 1)))
    session._decoder = decoder
    answer_of(session, points((3, 4, 1), step=1))
    assert used(decoder.calls[-1][0]) == [(1, 2, 1), (3, 4, 1)]


def test_the_cap_holds_over_rounds_and_is_named(session: Session) -> None:
    answer_of(session, points(*BOX, *[(1, 1, 1)] * 12))
    with pytest.raises(BadRequest, match=r"14 entries of earlier rounds, and 3 more would make 17; 16 entries") as said:
        answer_of(session, points(*[(2, 2, 1)] * 3))
    assert "two of which a box takes" in str(said.value)
    answer_of(session, points(*[(2, 2, 1)] * 2))
    answer_of(session, points(*BOX))
    answer_of(session, points(*[(2, 2, 1)] * 14))


def test_a_round_without_new_prompts_reuses_what_was_decoded(session: Session, decoder: StandIn) -> None:
    answer_of(session, points((1, 2, 1)))
    union = answer_of(session, {"COMBINATION": np.array([2], np.int32)})
    assert len(decoder.calls) == 1
    assert mode(union) == "audio+points"
    assert union["MASK_LOGITS"].min() == 7


def test_sound_may_be_left_out_of_a_round_but_not_put_in_later(decoder: StandIn) -> None:
    without = Session(features(1), None, decoder, CLIP)
    with pytest.raises(BadRequest, match="opened with USE_AUDIO false"):
        answer_of(without, points((1, 1, 1)))
    with pytest.raises(BadRequest, match="nothing says what to segment"):
        answer_of(without, NO_SOUND)
    assert mode(answer_of(without, points((1, 1, 1)) | NO_SOUND)) == "points"


def test_its_size_does_not_grow_beyond_what_it_said_at_the_start(session: Session) -> None:
    answer_of(session, points((1, 1, 1)))
    said = session.num_bytes
    for frame in range(CLIP.num_frames):
        answer_of(session, points((1, 1, 1), frame=frame))
    held = [session._features, session._heard, session._prompted, session._answer]
    arrays = [value for each in held for value in (each or {}).values() if value.dtype == np.float32]
    arrays += [prompt.previous for prompt in session._prompts.values() if prompt.previous is not None]
    assert sum(value.nbytes for value in arrays) + KEPT_BYTES <= said == session.num_bytes


def test_rounds_of_a_session_share_what_is_kept_of_its_clip_and_of_no_other(session: Session, decoder: StandIn) -> None:
    for frame in range(2):
        answer_of(session, points((1, 1, 1), frame=frame))
    other = Session(features(2), None, decoder, CLIP)
    answer_of(other, points((1, 1, 1)) | NO_SOUND)
    first, second, third = decoder.kept
    assert first is not None
    assert first is second
    assert third is not first


PREVIEW = {"PROPAGATE": np.array([0], np.int32)}


@pytest.mark.parametrize("sound", [{}, NO_SOUND])
def test_marks_then_tracking_end_where_tracked_rounds_end(decoder: StandIn, sound: dict[str, Any]) -> None:
    clicks = [points((1, 2, 1), frame=0), points((3, 4, 0), frame=0)]
    tracked, previewed = (Session(features(1), heard(1), decoder, CLIP) for _ in range(2))
    wanted = [answer_of(tracked, click | sound) for click in clicks]
    decoder.alone_calls = 0
    for click, want in zip(clicks, wanted, strict=True):
        preview = answer_of(previewed, click | sound | PREVIEW)
        np.testing.assert_array_equal(preview["MASK_LOGITS"][0], want["MASK_LOGITS"][0])
        others = heard(1)["MASK_LOGITS"][1:] if not sound else np.full_like(want["MASK_LOGITS"][1:], -1024)
        np.testing.assert_array_equal(preview["MASK_LOGITS"][1:], others)
    assert decoder.alone_calls == len(clicks)
    final = answer_of(previewed, sound)
    for name in ("MASK_LOGITS", "CANDIDATE_LOGITS", "IOU", "OBJECT_SCORE", PROMPT_MODE):
        np.testing.assert_array_equal(final[name], wanted[-1][name])
    calls = len(decoder.calls)
    answer_of(previewed, sound)
    assert len(decoder.calls) == calls, "nothing is tracked again"


def test_a_preview_feeds_back_nothing_of_a_frame_that_was_not_reached(session: Session, decoder: StandIn) -> None:
    answer_of(session, points((1, 2, 1), frame=0) | NO_SOUND | PREVIEW)
    answer_of(session, points((3, 4, 1), frame=2) | NO_SOUND | PREVIEW)
    assert decoder.calls[1][0].previous is None
    answer_of(session, NO_SOUND)
    assert [prompt.frame for prompt in decoder.calls[2]] == [0, 2]


def test_a_preview_leaves_tracked_frames_as_they_were(session: Session) -> None:
    before = answer_of(session, points((1, 2, 1), frame=0) | NO_SOUND)
    after = answer_of(session, points((5, 6, 1), frame=1) | NO_SOUND | PREVIEW)
    np.testing.assert_array_equal(after["MASK_LOGITS"][[0, 2]], before["MASK_LOGITS"][[0, 2]])
    assert not np.array_equal(after["MASK_LOGITS"][1], before["MASK_LOGITS"][1])


def test_another_propagate_is_refused_and_the_session_stays(session: Session) -> None:
    with pytest.raises(BadRequest, match="PROPAGATE is 2; must be 1"):
        answer_of(session, points((1, 2, 1)) | {"PROPAGATE": np.array([2], np.int32)})
    assert mode(answer_of(session, {"STEP": np.array([0], np.int32)})) == "audio"
