"""A hog beside a good caller, as a model in steps of time: whose clip is let in, and which deadlines are kept."""

import time
from collections import deque
from pathlib import Path

import pytest

from model_repository.stage_runtime.admission.clip_table import ClipTable
from model_repository.stage_runtime.admission.shares import share_of
from model_repository.stage_runtime.engine.refusals import NotAdmitted

LIMIT, SERVICE_S, TICK_S = 8, 0.1, 0.01
HOGS_CALLS = 16
GOODS_CALLS, GOODS_PERIOD_S = 60, 1.5


@pytest.mark.parametrize(
    ("limit", "num_callers", "share"), [(8, 1, 8), (8, 2, 4), (8, 3, 3), (8, 5, 2), (8, 99, 1), (1, 2, 1), (7, 2, 4)]
)
def test_a_share_is_a_callers_part_rounded_up(limit: int, num_callers: int, share: int) -> None:
    assert share_of(limit, num_callers) == share


# One hog may have four clips ahead, two have three each; and the good one's own, and a step to spare.
@pytest.mark.parametrize(("num_hogs", "deadline_s"), [(1, 0.6), (2, 0.8)])
def test_a_good_caller_keeps_its_deadline_beside_greedy_ones(
    num_hogs: int, deadline_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hog has sixteen calls under way at all times and asks again at every step; the good one does not repeat."""
    table, now = ClipTable(tmp_path / "clips"), [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    queue = deque[tuple[bytes, str, float]]()
    held = {f"hog {number}": 0 for number in range(num_hogs)}
    asked = kept = answered = 0
    idle_at = now[0]
    for step in range(round(GOODS_CALLS * GOODS_PERIOD_S / TICK_S)):
        now[0] = 1000 + step * TICK_S
        if queue and now[0] >= idle_at:
            ticket, caller, due = queue.popleft()
            table.end(ticket, answered=True)
            answered += 1
            if caller == "good":
                kept += now[0] <= due
            else:
                held[caller] -= 1
            idle_at = now[0] + SERVICE_S
        for hog, num in held.items():
            for _ in range(HOGS_CALLS - num):
                held[hog] += ask(table, queue, hog, now[0] + 60)
        if step % round(GOODS_PERIOD_S / TICK_S) == 77:
            asked += 1
            ask(table, queue, "good", now[0] + deadline_s)
    assert asked == GOODS_CALLS
    assert kept >= 0.95 * asked
    assert answered * SERVICE_S >= 0.95 * GOODS_CALLS * GOODS_PERIOD_S, "fairness costs no work"


def ask(table: ClipTable, queue: deque[tuple[bytes, str, float]], caller: str, due: float) -> int:
    try:
        ticket, _ = table.admit(caller, limit=LIMIT, timeout_s=due - time.monotonic())
    except NotAdmitted:
        return 0
    queue.append((ticket, caller, due))
    return 1
