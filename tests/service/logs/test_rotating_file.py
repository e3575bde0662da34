"""A log file that rotates: bounded, for its user alone, and never another file than the one that was named."""

import os
from pathlib import Path

import pytest

from auralsam2_client.errors import ConfigError
from service.logs.rotating_file import FILE_BYTES, NUM_FILES, RotatingFile


def test_all_files_together_stay_below_20_mb() -> None:
    assert FILE_BYTES * NUM_FILES < 20_000_000


def test_it_rotates_by_size_and_the_oldest_goes(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = RotatingFile(path, file_bytes=100, num_files=3)
    for number in range(50):
        log.write(f"line {number:04d}")
    log.close()
    files = sorted(tmp_path.iterdir())
    assert [each.name for each in files] == ["log", "log.1", "log.2"]
    assert all(each.stat().st_size <= 100 for each in files)
    assert all(each.stat().st_mode & 0o777 == 0o600 for each in files)
    kept = [line for each in (files[2], files[1], files[0]) for line in each.read_text().splitlines()]
    assert kept == [f"line {number:04d}" for number in range(50 - len(kept), 50)]


def test_a_later_service_appends_and_shuts_a_file_that_all_could_read(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("before\n")
    path.chmod(0o644)
    log = RotatingFile(path)
    log.write("after \udcff")
    log.close()
    assert path.read_text() == "before\nafter \\udcff\n"
    assert path.stat().st_mode & 0o777 == 0o600


def test_no_link_is_followed_at_start_or_later(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("kept")
    for make in (os.symlink, os.link):
        path = tmp_path / f"log_by_{make.__name__}"
        make(secret, path)
        with pytest.raises(ConfigError, match=r"link.*--log-file"):
            RotatingFile(path)
    path = tmp_path / "log"
    log = RotatingFile(path, file_bytes=10)
    log.write("first line")
    (tmp_path / "log.1").symlink_to(secret)
    log.write("second line")
    log.close()
    assert secret.read_text() == "kept"
    assert (tmp_path / "log.1").read_text() == "first line\n"
    assert not (tmp_path / "log.1").is_symlink()


@pytest.mark.parametrize("make", [lambda path: path.mkdir(), os.mkfifo, lambda path: RotatingFile(path)])
def test_what_is_no_file_or_anothers_is_refused(tmp_path: Path, make: object) -> None:
    path = tmp_path / "log"
    assert callable(make)
    held = make(path)
    with pytest.raises(ConfigError, match="cannot be the log"):
        RotatingFile(path)
    if isinstance(held, RotatingFile):
        held.close()


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none/log cannot be the log: No such file"):
        RotatingFile(tmp_path / "none" / "log")
