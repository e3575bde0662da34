"""The folder of a run's results: this run's files and the user's own, whatever was there, and whatever happens."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from auralsam2_client.errors import BadInput
from auralsam2_client.masks import FrameResult, write_results
from auralsam2_client.run_files import OVERLAY, SHEET
from service.results.out_folder import results_into

PICTURES = [OVERLAY, SHEET]


def masks(count: int) -> list[str]:
    return [f"mask_{index:05d}.png" for index in range(count)]


def fill(folder: Path, count: int, beside: list[str]) -> None:
    for name in beside:
        (folder / name).write_text(f"{count} frames")
    frame = FrameResult(0.0, np.ones((4, 4), bool), np.zeros(3, np.float32), 0, 1.0)
    write_results(folder, [frame] * count, source="s", fps=1, model="m", precision={}, beside=beside)


def run(out: Path, count: int, beside: list[str]) -> None:
    with results_into(out) as folder:
        fill(folder, count, beside)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def wanted(count: int, *more: str) -> list[str]:
    return sorted([*masks(count), "result.json", *more])


def test_what_an_earlier_run_wrote_goes_and_what_is_the_users_stays(tmp_path: Path) -> None:
    run(tmp_path, 9, PICTURES)
    for name in ("notes.txt", "mask_00099.png", "mask_1.png", "mask_final.png"):
        (tmp_path / name).write_text("mine")
    (tmp_path / "mask_folder").mkdir()
    run(tmp_path, 3, [])
    assert names(tmp_path) == wanted(3, "mask_00099.png", "mask_1.png", "mask_final.png", "mask_folder", "notes.txt")
    assert (tmp_path / "mask_00099.png").read_text() == "mine"


def test_pictures_that_no_run_wrote_are_the_users(tmp_path: Path) -> None:
    run(tmp_path, 2, [])
    (tmp_path / OVERLAY).write_text("mine")
    run(tmp_path, 1, [])
    assert names(tmp_path) == wanted(1, OVERLAY)


def test_results_of_earlier_versions_are_known_by_their_frames(tmp_path: Path) -> None:
    run(tmp_path, 4, PICTURES)
    record = json.loads((tmp_path / "result.json").read_text())
    del record["written"]
    (tmp_path / "result.json").write_text(json.dumps(record))
    (tmp_path / ".overlay.mp4.partial").write_text("of a run that was killed")
    (tmp_path / "result.json.partial").write_text("{")
    run(tmp_path, 1, [])
    assert names(tmp_path) == wanted(1)


@pytest.mark.parametrize(
    "record", ["no JSON", "[]", '{"frames": 3}', '{"frames": [], "model": "m", "written": ["../mine", "notes.txt", 7]}']
)
def test_a_list_of_somebody_else_removes_nothing(tmp_path: Path, record: str) -> None:
    (tmp_path / "mine").write_text("mine")
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    (out / "mask_00005.png").write_text("mine")
    (out / "result.json").write_text(record)
    run(out, 1, [])
    assert names(out) == wanted(1, "mask_00005.png", "notes.txt")
    assert names(tmp_path) == ["mine", "out"]


def test_a_run_that_fails_removes_and_writes_nothing(tmp_path: Path) -> None:
    run(tmp_path, 3, PICTURES)
    before = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}

    def fail(error: BaseException) -> None:
        with results_into(tmp_path) as folder:
            fill(folder, 1, [])
            raise error

    for error in (BadInput("no room"), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            fail(error)
        assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == before


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from tests.service.results.test_out_folder import run
    moves, replace = int(sys.argv[2]), Path.replace
    def some(self, target):
        global moves
        if self.parent.name.startswith(".auralsam2-unfinished-") and not self.name.endswith(".partial"):
            if moves == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            moves -= 1
        return replace(self, target)
    Path.replace = some
    run(Path(sys.argv[1]), 6, ["overlay.mp4"])
"""


@pytest.mark.parametrize("moves", [0, 4])
def test_what_a_killed_run_left_is_cleared_by_the_next(tmp_path: Path, moves: int) -> None:
    run(tmp_path, 3, [SHEET])
    (tmp_path / "notes.txt").write_text("mine")
    code = textwrap.dedent(KILLED)
    ended = subprocess.run([sys.executable, "-c", code, str(tmp_path), str(moves)], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert any(name.startswith(".auralsam2-unfinished-") for name in names(tmp_path))
    run(tmp_path, 2, [])
    assert names(tmp_path) == wanted(2, "notes.txt")


def test_a_run_under_way_keeps_its_folder(tmp_path: Path) -> None:
    with results_into(tmp_path) as folder:
        run(tmp_path, 5, [])
        assert folder.is_dir()
        fill(folder, 2, [])
    assert names(tmp_path) == wanted(2)


def test_links_are_replaced_and_what_they_point_at_stays(tmp_path: Path) -> None:
    treasure = tmp_path / "treasure"
    treasure.write_text("mine")
    out = tmp_path / "out"
    run(out, 3, PICTURES)
    linked = ["mask_00000.png", "mask_00002.png", OVERLAY, "result.json", ".overlay.mp4.partial", "result.json.partial"]
    for name in linked:
        (out / name).unlink(missing_ok=True)
        (out / name).symlink_to(treasure)
    (out / ".result.json.partial").symlink_to(treasure)
    (out / ".auralsam2-unfinished-link").symlink_to(tmp_path, target_is_directory=True)
    (out / SHEET).unlink()
    os.link(treasure, out / SHEET)
    run(out, 1, PICTURES)
    assert treasure.read_text() == "mine"
    for name in ("mask_00000.png", OVERLAY, SHEET, "result.json"):
        assert not (out / name).is_symlink()
    assert (out / OVERLAY).read_text() == (out / SHEET).read_text() == "1 frames"


def test_a_folder_by_the_name_of_a_result_is_refused_before_anything_is_removed(tmp_path: Path) -> None:
    run(tmp_path, 2, [])
    (tmp_path / OVERLAY).mkdir()
    with pytest.raises(BadInput, match=r"cannot be written: overlay\.mp4 is a folder there\. Choose another --out"):
        run(tmp_path, 1, PICTURES)
    assert names(tmp_path) == wanted(2, OVERLAY)
    shutil.rmtree(tmp_path)
    tmp_path.write_text("a file")
    with pytest.raises(BadInput, match=r"cannot be made a folder.*--out"):
        run(tmp_path, 1, [])
