"""Items worked on at once come back in order, few are in memory, and at the end no thread is left. No clock."""

import threading
from collections.abc import Iterator

import pytest

from auralsam2_client.flow.pace import Pace
from auralsam2_client.flow.threads import InOrder, Places, Stopped


def workers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("clips-")]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert workers() == []


def test_results_come_in_the_order_of_the_items_whichever_is_done_first() -> None:
    later = [threading.Event() for _ in range(6)]
    finished = []

    def work(item: int) -> int:
        # Of each pair the second is done first.
        if item % 2 == 0:
            later[item + 1].wait()
        finished.append(item)
        later[item].set()
        return 10 * item

    with InOrder(iter(range(6)), work, num_workers=2, num_ahead=2) as results:
        assert list(results) == [0, 10, 20, 30, 40, 50]
    assert finished == [1, 0, 3, 2, 5, 4]


def test_no_more_items_are_in_memory_than_asked_for() -> None:
    num_taken = 0

    def items() -> Iterator[int]:
        nonlocal num_taken
        for item in range(50):
            num_taken += 1
            yield item

    ahead = []
    with InOrder(items(), lambda item: item, num_workers=3, num_ahead=4) as results:
        for given, _ in enumerate(results, 1):
            ahead.append(num_taken - given)
    assert len(ahead) == 50
    assert max(ahead) <= 4


def test_items_are_taken_one_at_a_time() -> None:
    busy = threading.Lock()

    def items() -> Iterator[int]:
        for item in range(200):
            assert busy.acquire(blocking=False)
            busy.release()
            yield item

    with InOrder(items(), lambda item: item, num_workers=4, num_ahead=4) as results:
        assert list(results) == list(range(200))


def test_an_error_comes_in_its_turn_and_nothing_is_taken_after_it() -> None:
    def work(item: int) -> int:
        if item == 3:
            raise ValueError("three")
        return item

    items = iter(range(1000))
    got: list[int] = []
    with InOrder(items, work, num_workers=2, num_ahead=3) as results, pytest.raises(ValueError, match="three"):
        got.extend(results)
    assert got == [0, 1, 2]
    assert next(items) <= 7


def test_an_error_while_items_are_read_comes_after_what_was_read() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("torn")

    got: list[int] = []
    with (
        InOrder(items(), lambda item: item, num_workers=3, num_ahead=3) as results,
        pytest.raises(OSError, match="torn"),
    ):
        got.extend(results)
    assert got == [1]


def test_closing_calls_off_what_waits_for_a_place_or_pauses() -> None:
    places = Places(Pace(1))
    inside = threading.Semaphore(0)

    def work(item: int) -> int:
        places.take()
        inside.release()
        places.pause(3600)
        return item

    results = InOrder(iter(range(9)), work, num_workers=3, num_ahead=3, stop=places.stop)
    inside.acquire()
    results.close()
    with pytest.raises(Stopped):
        places.take()


def test_no_more_are_in_their_places_than_the_pace_allows() -> None:
    places = Places(Pace(2))
    counting = threading.Lock()
    inside = most = 0

    def work(item: int) -> int:
        nonlocal inside, most
        places.take()
        with counting:
            inside += 1
            most = max(most, inside)
        with counting:
            inside -= 1
        places.leave(answered=True)
        return item

    with InOrder(iter(range(300)), work, num_workers=5, num_ahead=5, stop=places.stop) as results:
        assert list(results) == list(range(300))
    assert 1 <= most <= 2
