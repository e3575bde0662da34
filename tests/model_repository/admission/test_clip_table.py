"""Clips in flight: admitted up to the limit, refused beyond it, followed by id through processes of their own."""

import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import pytest

from model_repository.stage_runtime.admission import clip_table
from model_repository.stage_runtime.admission.clip_table import ClipTable, table_path
from model_repository.stage_runtime.engine.refusals import NotAdmitted


@pytest.fixture
def table(tmp_path: Path) -> ClipTable:
    return ClipTable(tmp_path / "clips")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    now = [1000.0]
    monkeypatch.setattr(clip_table.time, "monotonic", lambda: now[0])
    return now


def admit(table: ClipTable, *names: str, limit: int = 2, timeout_s: float = 60.0) -> None:
    for name in names:
        table.admit(name, limit=limit, timeout_s=timeout_s)


def test_the_limit_is_kept_and_a_place_is_given_back(table: ClipTable) -> None:
    admit(table, "a", "b")
    with pytest.raises(NotAdmitted, match="the queue is full: 2 clips are in flight, at most 2") as refused:
        admit(table, "c")
    assert refused.value.reason == "queue_full"
    assert not table.holds("c")
    table.end("a", answered=True)
    admit(table, "c")
    assert table.in_flight() == 2


def test_two_processes_see_one_table(table: ClipTable, tmp_path: Path) -> None:
    admit(table, "a", "b", "c", limit=9)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(end_elsewhere, (str(tmp_path / "clips"), "b"))
    assert [table.holds(name) for name in ("a", "b", "c")] == [True, False, True]


def end_elsewhere(path: str, name: str) -> bool:
    return ClipTable(Path(path)).end(name, answered=True) is not None


def test_clips_without_ids_leave_in_the_order_in_which_they_came(table: ClipTable, clock: list[float]) -> None:
    admit(table, "")
    clock[0] += 5
    admit(table, "")
    clock[0] += 1
    assert table.end("", answered=True) == 6
    assert table.end("", answered=True) == 1
    assert table.end("", answered=True) is None


def test_a_clip_that_could_not_be_answered_in_time_is_refused_at_once(table: ClipTable, clock: list[float]) -> None:
    admit(table, "a")
    clock[0] += 3
    table.end("a", answered=True)  # one clip takes three seconds
    admit(table, "b", limit=9, timeout_s=1)  # an empty chain takes any clip
    with pytest.raises(NotAdmitted, match=r"1 clips are ahead .* 6\.0 s, the caller waits 5\.0 s") as refused:
        admit(table, "c", limit=9, timeout_s=5)
    assert refused.value.reason == "deadline"
    admit(table, "d", limit=9, timeout_s=7)


def test_waiting_counts_from_the_stage_before_and_ends_with_the_callers_patience(
    table: ClipTable, clock: list[float]
) -> None:
    admit(table, "a", timeout_s=4)
    clock[0] += 2
    assert table.waiting_s("a") == 2
    table.hand_on("a")
    clock[0] += 1
    assert table.waiting_s("a") == 1
    assert not table.is_expired("a")
    clock[0] += 2
    assert table.is_expired("a")
    assert table.waiting_s("nobody") is None
    assert not table.is_expired("nobody")


def test_a_clip_whose_end_nobody_saw_gives_its_place_back(table: ClipTable, clock: list[float]) -> None:
    admit(table, "lost", "lost too", timeout_s=4)
    clock[0] += 4 + clip_table.GRACE_S - 0.1
    with pytest.raises(NotAdmitted):
        admit(table, "new")
    clock[0] += 0.2
    admit(table, "new")
    assert table.in_flight() == 1


def test_what_begins_with_the_mark_is_the_launchers_to_remove() -> None:
    assert table_path("auralsam2_7_x_", 12) == Path("/dev/shm/auralsam2_7_x_clips_12")
    assert table_path("", 12) == Path("/dev/shm/auralsam2_clips_12")
