"""Tests that need a card are left out without one, with one reason, and run where they are asked for."""

from pathlib import Path
from typing import Any

import pytest

from loadtests.gpu.checks.check import Check, LeftOutError, Place
from tests.cards import on_card


class Item:
    """A collected test, as far as it is asked."""

    def __init__(self, *markers: str) -> None:
        self.markers = {name: getattr(pytest.mark, name).mark for name in markers}

    def get_closest_marker(self, name: str) -> pytest.Mark | None:
        return self.markers.get(name)

    def add_marker(self, marker: pytest.MarkDecorator) -> None:
        self.markers[marker.name] = marker.mark


@pytest.mark.parametrize(("asked", "card", "left_out"), [(True, True, False), (True, False, True), (False, True, True)])
def test_tests_of_a_card_run_where_they_are_asked_for(asked: bool, card: bool, left_out: bool) -> None:
    own, other = Item("gpu"), Item("parametrize")
    items: list[Any] = [own, other]
    on_card.leave_out_without_a_card(items, asked=asked, card=card)
    assert ("skip" in own.markers) == left_out
    assert "skip" not in other.markers
    if left_out:
        assert own.markers["skip"].kwargs == {"reason": "needs a CUDA card: make test-gpu"}


def test_a_check_that_cannot_be_made_is_skipped_and_one_that_fails_fails() -> None:
    def left_out(place: Place) -> None:
        assert place == Place("cuda", Path("out/test-gpu"))
        raise LeftOutError("no toolkit")

    def wrong(_: Place) -> None:
        raise AssertionError("the error is 3.00 times what is allowed")

    with pytest.raises(pytest.skip.Exception, match="no toolkit"):
        on_card.run_check(Check("a", "sanitizer", left_out))
    with pytest.raises(AssertionError, match=r"3\.00 times"):
        on_card.run_check(Check("b", "kernels", wrong))
