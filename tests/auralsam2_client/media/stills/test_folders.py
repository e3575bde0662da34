"""The files of a folder: in the order of their numbers, without what systems leave behind."""

from pathlib import Path

import pytest

from auralsam2_client.media.stills.folders import is_left_over, list_files, natural_key


@pytest.mark.parametrize(
    "names",
    [
        [f"{number}.jpg" for number in range(1, 13)],
        [f"frame{number}.png" for number in (2, 9, 10, 11, 100)],
        ["a2b9.png", "a2b10.png", "a10b1.png"],
        ["0.5.png", "0.10.png", "1.0.png"],
        ["9.jpg", "10.png", "11.jpg"],
        ["frame.png", "frame1.png", "frame2.png"],
        ["Shot1.png", "shot2.png", "Shot10.png"],
        ["1.png", "shot.png"],
        ["01.png", "1.png", "2.png"],
        ["٩.png", "10.png"],
    ],
)
def test_runs_of_digits_count_as_numbers(names: list[str]) -> None:
    paths = sorted((Path(name) for name in reversed(names)), key=natural_key)
    assert [path.name for path in paths] == names


def test_left_overs_and_folders_are_not_listed(tmp_path: Path) -> None:
    for name in ("2.png", "10.PNG", "._2.png", ".DS_Store", "Thumbs.db", "desktop.ini", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "3.png").mkdir()
    assert [path.name for path in list_files(tmp_path, (".png",))] == ["2.png", "10.PNG"]
    assert [path.name for path in list_files(tmp_path, (".db", ".ini", ""))] == []
    assert is_left_over(Path("THUMBS.DB"))
    assert not is_left_over(Path(".1.png"))
