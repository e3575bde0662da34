"""What was measured of this code on this card stays; anything else is measured again."""

import json
from pathlib import Path

from loadtests.gpu.planning.records import Results, code_digest, commit

HERE = {"card": {"card": "NVIDIA H200", "driver": "580"}, "code": "abc"}


def test_rows_of_the_same_code_and_card_stay(tmp_path: Path) -> None:
    path = tmp_path / "gpu.json"
    first = Results(path, HERE)
    first.keep("fast", {"median_ms": 1.0})
    first.keep("none", {"reason": "out of time"})
    second = Results(path, HERE)
    assert second.has("fast")
    assert not second.has("none")
    assert not Results(path, HERE, again=True).has("fast")
    for other in ({**HERE, "code": "abd"}, {**HERE, "card": {"card": "NVIDIA H100", "driver": "580"}}):
        assert Results(path, other).rows == {}


def test_a_reason_never_replaces_figures(tmp_path: Path) -> None:
    results = Results(tmp_path / "gpu.json", HERE)
    results.keep("row", {"reason": "out of time"})
    results.keep("row", {"median_ms": 1.0})
    results.keep("row", {"reason": "out of time"})
    assert results.rows == {"row": {"median_ms": 1.0}}


def test_a_damaged_file_is_begun_again(tmp_path: Path) -> None:
    path = tmp_path / "gpu.json"
    for text in ("{", "[]", '{"identity": 1}'):
        path.write_text(text)
        assert Results(path, HERE).rows == {}
    results = Results(path, HERE)
    results.keep("row", {"median_ms": 1.0})
    results.write({"commit": "d65fec2"})
    assert json.loads(path.read_text()) == {"identity": HERE, "commit": "d65fec2", "rows": {"row": {"median_ms": 1.0}}}
    assert [file.name for file in tmp_path.iterdir()] == ["gpu.json"]


def test_a_change_of_a_measured_file_is_another_code(tmp_path: Path) -> None:
    (tmp_path / "kernels").mkdir()
    file = tmp_path / "kernels" / "plan.py"
    file.write_text("BLOCK = 64\n")
    before = code_digest(tmp_path, ["kernels"])
    (tmp_path / "kernels" / "notes.txt").write_text("no code")
    assert code_digest(tmp_path, ["kernels"]) == before
    file.write_text("BLOCK = 128\n")
    assert code_digest(tmp_path, ["kernels"]) != before


def test_a_folder_without_git_has_no_commit(tmp_path: Path) -> None:
    assert commit(tmp_path) == "no git"
