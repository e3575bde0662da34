"""The bench of `segment`: its video, its turns and its table, without a server."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import pytest

from auralsam2_client.errors import ServerFault
from auralsam2_client.run_files import RESULT
from loadtests.generator.driving import Load
from loadtests.segmenting import __main__ as bench
from loadtests.segmenting.report import markdown
from loadtests.segmenting.video import PIECE_S, RATE, long_video


def test_a_long_video_is_made_once_and_runs_through(tmp_path: Path) -> None:
    path = long_video(tmp_path / "build" / "long.mp4", 2 * PIECE_S, 64, 36)
    made = path.stat()
    assert long_video(path, 2 * PIECE_S, 64, 36).stat() == made
    assert list(path.parent.iterdir()) == [path]
    with av.open(str(path)) as video:
        times = [frame.time for frame in video.decode(video=0)]
    assert len(times) == 2 * PIECE_S * RATE
    assert times == pytest.approx([number / RATE for number in range(len(times))], abs=1e-3)
    with av.open(str(path)) as video:
        heard = sum(frame.samples / frame.sample_rate for frame in video.decode(audio=0))
    assert heard == pytest.approx(2 * PIECE_S, abs=0.1)


def test_a_segment_that_fails_ends_the_bench_with_its_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(ServerFault, match="segment ended with 1"):
        bench.segment_once("127.0.0.1:1", tmp_path / "none.mp4", tmp_path, [])


def test_a_segment_is_measured_by_its_own_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / RESULT).write_text(json.dumps({"frames": [{}] * 10}))
    monkeypatch.setattr("sys.executable", "/bin/true")
    found = bench.segment_once("127.0.0.1:1", tmp_path / "none.mp4", tmp_path, [])
    assert found["frames"] == 10
    assert found["frames_per_s"] > 0
    assert found["peak_mb"] > 0


def test_both_ways_take_turns_with_the_generator_and_medians_are_by_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: list[str] = []
    rates = iter((20.0, 40.0, 30.0))

    @contextlib.contextmanager
    def serve(build: Path, **options: Any) -> Iterator[Any]:
        yield SimpleNamespace(config=SimpleNamespace(grpc_url="here"))

    def generator(*given: Any) -> float:
        turns.append("generator")
        return next(rates)

    def segment(url: str, video: Path, out: Path, options: list[str]) -> dict[str, float]:
        turns.append("masks alone" if options else "with overlay")
        return {"frames": 600, "frames_per_s": 10.0 if options else 5.0, "cpu_ms": 7.0, "peak_mb": 200.0}

    manifest = SimpleNamespace(name="toy", num_frames=5)
    for name, stand_in in (
        ("serve_build", serve),
        ("generator_best", generator),
        ("segment_once", segment),
        ("read_manifest", lambda build: manifest),
        ("steps_ms", lambda video, url: {"decode": 0.5}),
        ("machine", dict),
        ("machine_sentence", lambda found: "a machine"),
    ):
        monkeypatch.setattr(bench, name, stand_in)
    record = bench.run(tmp_path, tmp_path / "long.mp4", tmp_path, rounds=3, seconds=1.0)
    assert turns == ["generator", "masks alone", "with overlay"] * 3
    assert record["medians"]["masks alone"]["ratio"] == pytest.approx(10 / 30)
    table = markdown(record | {"note": "busy."})
    assert "| masks alone | 10.0 | 30.0 | 0.33 | 7.0 | 200 |" in table
    assert "| with overlay | 5.0 | 30.0 | 0.17 | 7.0 | 200 |" in table
    assert "medians of 3 turns" in table
    assert table.endswith("busy.")


def test_the_generators_best_is_over_numbers_of_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def drive(url: str, load: Load, out: Path, *, name: str) -> int:
        asked.append(load.users)
        return int(load.users)

    by_users = {1: 20.0, 2: 35.0, 4: 31.0}
    monkeypatch.setattr(bench, "drive", drive)
    monkeypatch.setattr(bench, "summarise", lambda users, *given: SimpleNamespace(frames_per_s=by_users[users]))
    assert bench.generator_best("here", 5, 1.0, tmp_path) == 35.0
    assert asked == list(bench.USERS)
