"""Files that appear whole or not at all, and never through a link."""

from pathlib import Path

import pytest

from auralsam2_client.new_file import new_file, write_new


def test_a_link_in_place_is_replaced_and_what_it_points_at_stays(tmp_path: Path) -> None:
    treasure, path = tmp_path / "treasure", tmp_path / "out" / "a.json"
    path.parent.mkdir()
    treasure.write_text("mine")
    for name in ("a.json", ".a.json.partial"):
        (path.parent / name).symlink_to(treasure)
    write_new(path, "new\n")
    assert (treasure.read_text(), path.read_text()) == ("mine", "new\n")
    assert not path.is_symlink()
    assert [each.name for each in path.parent.iterdir()] == ["a.json"]


def test_a_file_under_another_name_too_is_not_written_to(tmp_path: Path) -> None:
    treasure, path = tmp_path / "treasure", tmp_path / "a.json"
    treasure.write_text("mine")
    path.hardlink_to(treasure)
    write_new(path, "new")
    assert (treasure.read_text(), path.read_text()) == ("mine", "new")


def test_a_link_that_comes_in_between_is_not_written_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    treasure, path = tmp_path / "treasure", tmp_path / "a.json"
    treasure.write_text("mine")
    unlink = Path.unlink

    def and_link(self: Path, missing_ok: bool = False) -> None:
        unlink(self, missing_ok)
        monkeypatch.undo()
        self.symlink_to(treasure)

    monkeypatch.setattr(Path, "unlink", and_link)
    with pytest.raises(FileExistsError):
        write_new(path, "new")
    assert treasure.read_text() == "mine"


def test_a_block_that_fails_leaves_what_was(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")

    def fail() -> None:
        with new_file(path) as partial:
            partial.write_text("half")
            raise ValueError("half")

    with pytest.raises(ValueError, match="half"):
        fail()
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("a.json", "old")]
