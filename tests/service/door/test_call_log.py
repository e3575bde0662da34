"""The log of calls, counted and rotated."""

import json
from pathlib import Path

from service.door.call_log import CallLog

KNOWN = ("/s/ModelInfer",)


def line(method: str = "/s/ModelInfer", status: str = "0", **changed: str) -> str:
    return json.dumps(
        {
            "method": method,
            "grpc_status": status,
            "bytes_received": "10",
            "bytes_sent": "3",
            "seconds": "0.250",
            **changed,
        }
    )


def write(path: Path, *lines: str, end: str = "\n") -> None:
    with path.open("a") as file:
        file.write("\n".join(lines) + end)


def test_calls_are_counted_once_and_strangers_together(tmp_path: Path) -> None:
    path = tmp_path / "log"
    calls = CallLog(path, KNOWN, lambda: None)
    calls.look()
    write(path, line(), line(status="14"), line("/s/Other", "12"), line("/s/Another", "12"), line(status=""), "broken{")
    calls.look()
    half = line()
    write(path, half[:20], end="")
    calls.look()
    write(path, half[20:])
    calls.look()
    counted, sums = calls.counts()
    assert counted == {
        ("ModelInfer", "0"): 2,
        ("ModelInfer", "14"): 1,
        ("ModelInfer", "none"): 1,
        ("other", "12"): 2,
    }
    assert (sums["bytes_received"], sums["bytes_sent"], sums["milliseconds"]) == (60, 18, 1500)
    calls.close()


def test_a_log_of_before_is_not_counted(tmp_path: Path) -> None:
    write(tmp_path / "log", line())
    calls = CallLog(tmp_path / "log", KNOWN, lambda: None)
    write(tmp_path / "log", line(status="5"))
    calls.look()
    assert calls.counts()[0] == {("ModelInfer", "5"): 1}
    calls.close()


def test_it_is_rotated_by_size_and_nothing_is_lost(tmp_path: Path) -> None:
    path, opened = tmp_path / "log", []
    calls = CallLog(path, KNOWN, lambda: opened.append(1), max_bytes=1000)
    for round in range(1, 6):
        # nginx has the earlier file open a moment longer.
        late = path.with_name("log.1") if opened else path
        write(path, *[line()] * 20)
        calls.look()
        assert len(opened) == round
        write(late, line(status="1"))
        write(path, line(status="2"))
        calls.look()
    assert {file.name for file in tmp_path.iterdir()} == {"log", "log.1"}
    assert calls.counts()[0] == {("ModelInfer", "0"): 100, ("ModelInfer", "1"): 5, ("ModelInfer", "2"): 5}
    calls.close()
