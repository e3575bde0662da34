"""One event a request, put together of what each stage says of it."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from auralsam2_client.contract import STATUS, Reason, StageRecord
from service.logs.events import ERROR, INFO, REQUEST, WARNING, Event, Tell

# Of requests on their way; a server lets fewer in.
MAX_OPEN = 4096
# A request between two stages for longer than this: its caller is gone, and the server gave the next stage nothing.
FORGOTTEN_AFTER_S = 600.0
# Clips of the supervisor's own come every few seconds, so one event tells of those of a minute.
GOLDEN_PERIOD_S = 60.0


@dataclass(eq=False)
class _Open:
    key: str
    request: str
    since_s: float
    session: bool
    stages: dict[str, float] = field(default_factory=dict)
    caller: str = ""
    parts: list[str] = field(default_factory=list)
    """The keys of the clips that a round runs through the stages."""


class Requests:
    """Takes the records of all stages, in the order in which they come, and tells of each request once. For one thread.

    Requests are told apart by the service's own keys, whatever their callers call them.

    Args:
        clock: seconds, ever growing; a stand-in in tests.
    """

    def __init__(self, tell: Tell, clock: Callable[[], float] = time.monotonic) -> None:
        self._tell, self._clock = tell, clock
        self._open: OrderedDict[str, _Open] = OrderedDict()
        self._round_of: dict[str, _Open] = {}
        self._golden: list[float] = []
        self._golden_since_s = clock()

    def __call__(self, record: StageRecord) -> None:
        """Take what one stage says of one request."""
        now = self._clock()
        self._forget(now)
        if lost := record.get("lost", 0):
            words = f"{lost} records of requests were lost: the pipe was full"
            self._tell(Event("lost", words, {"records": lost}, WARNING))
        found = self._find(record) or self._begin(record, now)
        if taken := record["ms"]:
            found.stages[record["stage"]] = taken
        found.stages.update(record.get("stages", {}))
        found.caller = record.get("caller", "") or found.caller
        if record.get("ends") and (record.get("session") or not found.session):
            self._close(found)
            self._end(record, found, now)

    def _find(self, record: StageRecord) -> _Open | None:
        key = record["key"]
        if key in self._round_of:
            return self._round_of[key]
        around = self._open.get(record.get("round", ""))
        if around is None or not key:
            return around or self._open.get(key)
        around.parts.append(key)
        self._round_of[key] = around
        return around

    def _begin(self, record: StageRecord, now: float) -> _Open:
        found = _Open(record["key"], record["request"], now, record.get("session", False))
        self._open[found.key] = found
        return found

    def _close(self, found: _Open) -> None:
        self._open.pop(found.key, None)
        for each in found.parts:
            del self._round_of[each]

    def _end(self, record: StageRecord, found: _Open, now: float) -> None:
        reason = record.get("reason")
        total_ms = record.get("total_ms") or sum(found.stages.values())
        if record.get("golden") and reason is None:
            self._count_golden(total_ms, now)
            return
        known = reason in frozenset(Reason)
        code = "OK" if reason is None else STATUS[Reason(reason)] if known else "INTERNAL"
        fields: dict[str, object] = {"request": found.request, "code": code}
        if reason is not None:
            fields |= {"reason": reason, "stage": record["stage"]}
        if found.caller:
            fields["caller"] = found.caller
        if record.get("session"):
            fields["session"] = True
        fields |= {each: record[each] for each in ("frames", "mode") if each in record}
        fields["ms"] = {**found.stages, "total": round(total_ms, 3)}
        level = INFO if reason is None else ERROR if reason == Reason.FAULT else WARNING
        self._tell(Event(REQUEST, _words(fields, found.stages, total_ms), fields, level))

    def _count_golden(self, total_ms: float, now: float) -> None:
        self._golden.append(total_ms)
        if now - self._golden_since_s < GOLDEN_PERIOD_S:
            return
        mean_ms = round(sum(self._golden) / len(self._golden), 3)
        words = f"{len(self._golden)} golden clips were answered, in {mean_ms:g} ms on average"
        self._tell(Event("golden", words, {"clips": len(self._golden), "mean_ms": mean_ms}, quiet=True))
        self._golden, self._golden_since_s = [], now

    def _forget(self, now: float) -> None:
        while self._open:
            found = next(iter(self._open.values()))
            if now - found.since_s < FORGOTTEN_AFTER_S and len(self._open) <= MAX_OPEN:
                return
            self._close(found)
            fields = {"request": found.request, "code": "UNKNOWN", "ms": found.stages}
            words = f"{found.request or '-'}  UNKNOWN: no stage saw its end; its caller went away before"
            self._tell(Event(REQUEST, words, fields, WARNING))


def _words(fields: dict[str, object], stages: dict[str, float], total_ms: float) -> str:
    """Say the same for a person."""
    parts = [str(fields["request"] or "-")]
    if "caller" in fields:
        parts.append(f"of {fields['caller']}")
    reason = fields.get("reason")
    parts.append(str(fields["code"]) if reason is None else f"{fields['code']} ({reason}, by {fields['stage']})")
    if "frames" in fields:
        parts.append(f"{fields['frames']} frames by {fields['mode']}")
    by_stage = ", ".join(f"{stage} {taken:.1f}" for stage, taken in stages.items())
    parts.append(f"{total_ms:.1f} ms" + (f" ({by_stage})" if by_stage else ""))
    return "  ".join(parts)
