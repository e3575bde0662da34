"""Clips in flight: admitted up to the limit, refused beyond it, followed by ticket through processes of their own."""

import multiprocessing
from pathlib import Path

import pytest

from model_repository.stage_runtime.admission import clip_table
from model_repository.stage_runtime.admission.clip_table import ClipTable, table_path
from model_repository.stage_runtime.engine.refusals import NotAdmitted

HIERA, DECODER = 1, 3


@pytest.fixture
def table(tmp_path: Path) -> ClipTable:
    return ClipTable(tmp_path / "clips")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(clip_table.time, "monotonic", lambda: now[0])
    return now


def admit(table: ClipTable, caller: str = "me", *, limit: int = 2, timeout_s: float = 60.0, spare: int = 0) -> bytes:
    return table.admit(caller, limit=limit, timeout_s=timeout_s, spare=spare)[0]


def test_the_limit_is_kept_whatever_a_caller_says_and_a_place_is_given_back(table: ClipTable) -> None:
    first, second = admit(table), admit(table)
    assert first != second
    with pytest.raises(NotAdmitted, match="the queue is full: 2 clips are in flight, at most 2") as refused:
        admit(table)
    assert refused.value.reason == "queue_full"
    table.end(first, answered=True)
    admit(table)
    assert table.in_flight() == 2


def test_two_processes_see_one_table(table: ClipTable, tmp_path: Path) -> None:
    tickets = [admit(table, limit=9) for _ in range(3)]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(end_elsewhere, (str(tmp_path / "clips"), tickets[1]))
    assert [table.begin(ticket, HIERA) is not None for ticket in tickets] == [True, False, True]


def end_elsewhere(path: str, ticket: bytes) -> bool:
    return ClipTable(Path(path)).end(ticket, answered=True) is not None


@pytest.mark.parametrize("ticket", [b"", b"\0" * 16, b"x" * 16, b"x" * 17])
def test_a_ticket_that_was_never_drawn_is_nobodys(table: ClipTable, ticket: bytes) -> None:
    admit(table)
    assert table.begin(ticket, HIERA) is None
    assert table.end(ticket, answered=True) is None
    table.hand_on(ticket)
    assert table.in_flight() == 1


def test_a_clip_that_could_not_be_answered_in_time_is_refused_at_once(table: ClipTable, clock: list[float]) -> None:
    first = admit(table)
    clock[0] += 3
    table.end(first, answered=True)  # one clip takes three seconds
    admit(table, limit=9, timeout_s=1)  # an empty chain takes any clip
    with pytest.raises(NotAdmitted, match=r"1 clips are ahead .* 6\.0 s, the caller waits 5\.0 s") as refused:
        admit(table, limit=9, timeout_s=5)
    assert refused.value.reason == "deadline"
    admit(table, limit=9, timeout_s=7)


def test_waiting_counts_from_the_stage_before_and_ends_with_the_callers_patience(
    table: ClipTable, clock: list[float]
) -> None:
    ticket = admit(table, timeout_s=4)
    clock[0] += 2
    table.hand_on(ticket)
    clock[0] += 1
    begun = table.begin(ticket, HIERA)
    assert begun is not None
    assert (begun.waited_s, begun.expired) == (1, False)
    clock[0] += 2
    begun = table.begin(ticket, DECODER)
    assert begun is not None
    assert begun.expired


def test_a_clip_whose_end_nobody_saw_gives_its_place_back(table: ClipTable, clock: list[float]) -> None:
    for _ in range(2):
        admit(table, timeout_s=4)
    clock[0] += 4 + clip_table.GRACE_S - 0.1
    with pytest.raises(NotAdmitted):
        admit(table)
    clock[0] += 0.2
    admit(table)
    assert table.in_flight() == 1


def test_a_place_that_no_work_is_done_for_lapses_and_is_taken_up_again_by_a_clip_that_comes(
    table: ClipTable, clock: list[float]
) -> None:
    """Whoever calls the first stage by its name, with hours to wait, holds a place for half a second."""
    called = [admit(table, timeout_s=3600) for _ in range(2)]
    for ticket in called:
        table.hand_on(ticket)
    clock[0] += clip_table.LAPSE_S + 0.1
    admit(table)
    assert table.in_flight() == 1
    assert table.begin(called[0], HIERA) is not None
    assert table.in_flight() == 2


def test_a_clip_that_waits_for_a_busy_stage_keeps_its_place_until_it_is_passed_over(
    table: ClipTable, clock: list[float]
) -> None:
    working, waiting = (admit(table, limit=3, timeout_s=1000) for _ in range(2))
    for ticket in (working, waiting):
        table.hand_on(ticket)
    table.begin(working, HIERA)
    later = admit(table, limit=3, timeout_s=1000)
    table.hand_on(later)
    clock[0] += 100
    with pytest.raises(NotAdmitted):
        admit(table, limit=3, timeout_s=1000)
    table.begin(later, HIERA)
    admit(table, limit=3, timeout_s=1000)
    assert table.in_flight() == 3


def test_the_services_own_clip_has_a_place_beyond_the_limit(table: ClipTable) -> None:
    for _ in range(2):
        admit(table)
    admit(table, "local", spare=1)
    with pytest.raises(NotAdmitted):
        admit(table, "local", spare=1)


def test_one_caller_may_have_all_places_until_another_was_refused(table: ClipTable, clock: list[float]) -> None:
    mine = [admit(table, limit=4) for _ in range(4)]
    with pytest.raises(NotAdmitted, match="the queue is full"):
        admit(table, "other", limit=4)
    table.end(mine[0], answered=False)
    with pytest.raises(NotAdmitted, match=r"3 clips of yours are in flight, .* your share is 2 of 4") as refused:
        admit(table, limit=4)
    assert refused.value.reason == "queue_full"
    admit(table, "other", limit=4)
    for ticket in mine[1:3]:
        table.end(ticket, answered=False)
    admit(table, limit=4)
    clock[0] += clip_table.WAITING_S + 1
    admit(table, limit=4)


def test_what_begins_with_the_mark_is_the_launchers_to_remove() -> None:
    assert table_path("auralsam2_7_x_", 12) == Path("/dev/shm/auralsam2_7_x_clips_12")
    assert table_path("", 12) == Path("/dev/shm/auralsam2_clips_12")
