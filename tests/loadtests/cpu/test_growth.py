"""The bench of growing work, whole, on the smallest build there is."""

import json
from pathlib import Path

import pytest

from loadtests.cpu import growth
from tests.builds import copy_to_serve


def test_lengths_and_callers_are_measured_and_shown(
    small_build: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "--image-size 224 --lengths 2 --callers-length 2 --callers 1 2 --repeats 2 --seconds 4 --precision float32"
    served = copy_to_serve(small_build, tmp_path)
    assert growth.main([*words.split(), "--out", str(tmp_path)], build=lambda case, precision: served) == 0
    record = json.loads((tmp_path / "growth.json").read_text())
    (row,) = record["lengths"]
    assert row["num_frames"] == 2
    assert row["frames_per_s"] == pytest.approx(1e3 / sum(row["ms_a_frame"].values()))
    assert [row["callers"] for row in record["callers"]] == [1, 2]
    for row in record["callers"]:
        assert set(row["by_code"]) == {"OK"}
        assert row["frames_per_s"] > 0
    text = capsys.readouterr().out
    assert f"| 2 | {record['lengths'][0]['frames_per_s']:.1f} |" in text
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")
