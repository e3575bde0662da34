"""One event, one line: whatever a caller chose for an id."""

import json
import re

from service.logs.events import REQUEST, SERVER, Event, as_json, as_lines, as_text, timestamp

HOSTILE = 'a\n{"event": "ready"}\x1b[2J\u202e\u2028'


def test_time_is_rfc_3339_in_utc_with_milliseconds() -> None:
    assert timestamp(1_764_232_383.1234) == "2025-11-27T08:33:03.123Z"
    assert timestamp(1_764_232_383.0) == "2025-11-27T08:33:03.000Z"


def test_json_has_the_figures_and_stays_one_line_of_ascii() -> None:
    line = as_json(Event("restart", f"of {HOSTILE}", {"pause_s": 0.5, "stage": HOSTILE}, "error", time_s=0.0))
    assert line.isascii()
    assert len(line.splitlines()) == 1
    found = json.loads(line)
    assert list(found) == ["time", "level", "event", "pause_s", "stage", "message"]
    assert (found["time"], found["stage"]) == ("1970-01-01T00:00:00.000Z", HOSTILE)


def test_text_says_when_and_who_in_one_line() -> None:
    assert as_text(Event("ready", "ready on x", time_s=0.0)) == "1970-01-01T00:00:00.000Z supervisor: ready on x"
    line = as_text(Event(REQUEST, HOSTILE))
    assert len(line.splitlines()) == 1
    assert re.match(r"\S+Z request: a\\n", line)
    assert "\x1b" not in line
    assert "\u202e" not in line


def test_a_message_is_bounded() -> None:
    assert len(as_text(Event("note", "x" * 100_000))) < 9000
    assert len(as_json(Event("note", "\x00" * 100_000))) < 50_000


def test_who_takes_lines_gets_those_of_the_server_bare() -> None:
    lines: list[str] = []
    tell = as_lines(lines.append)
    tell(Event(SERVER, "I1127 loaded"))
    tell(Event("ready", "ready on x"))
    assert lines == ["I1127 loaded", "supervisor: ready on x"]
