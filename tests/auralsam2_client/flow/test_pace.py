"""How many clips are in flight: halved by a refusal, brought back one by one, with pauses in between."""

import pytest

from auralsam2_client.errors import BadInput
from auralsam2_client.flow.pace import ANSWERS_FOR_MORE, MAX_IN_FLIGHT, PAUSE_BASE_S, PAUSE_CAP_S, USUAL_IN_FLIGHT, Pace


def test_it_begins_with_all_places_and_a_refusal_halves_them_down_to_one() -> None:
    pace = Pace(8)
    limits = [pace.limit]
    for _ in range(4):
        pace.note_refusal()
        limits.append(pace.limit)
    assert limits == [8, 4, 2, 1, 1]
    assert Pace().limit == USUAL_IN_FLIGHT


def test_places_come_back_one_at_a_time_and_never_beyond_the_bound() -> None:
    pace = Pace(3)
    pace.note_refusal()
    limits = []
    for _ in range(4 * ANSWERS_FOR_MORE):
        pace.note_answer()
        limits.append(pace.limit)
    assert limits == [1] * (ANSWERS_FOR_MORE - 1) + [2] * ANSWERS_FOR_MORE + [3] * (2 * ANSWERS_FOR_MORE + 1)


def test_a_refusal_in_between_begins_the_count_of_answers_again() -> None:
    pace = Pace(2)
    pace.note_refusal()
    for _ in range(ANSWERS_FOR_MORE - 1):
        pace.note_answer()
    pace.note_refusal()
    pace.note_answer()
    assert pace.limit == 1


def test_pauses_double_to_a_bound_are_never_zero_and_begin_again_after_an_answer() -> None:
    pace = Pace(4)
    pauses = [pace.note_refusal() for _ in range(40)]
    for number, pause_s in enumerate(pauses):
        bound_s = min(PAUSE_CAP_S, PAUSE_BASE_S * 2.0**number)
        assert bound_s / 2 <= pause_s <= bound_s
    pace.note_answer()
    assert pace.note_refusal() <= PAUSE_BASE_S


@pytest.mark.parametrize("most", [0, -1, MAX_IN_FLIGHT + 1])
def test_a_number_out_of_range_is_refused(most: int) -> None:
    with pytest.raises(BadInput, match=f"in_flight = {most}; must be 1 to {MAX_IN_FLIGHT}"):
        Pace(most)
