"""Regions of shared memory: theirs alone while their process lives, swept once it is dead, however it ended."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from auralsam2_client import local_regions
from auralsam2_client.errors import ConfigError
from auralsam2_client.local_regions import Region, is_ours, sweep_all, sweep_dead

HOLDER = """
import sys
from auralsam2_client import local_regions
from pathlib import Path
local_regions.FOLDER = Path(sys.argv[1])
region = local_regions.Region(4096)
print(region.name, flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(local_regions, "FOLDER", tmp_path)
    return tmp_path


@contextmanager
def holder(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Another process that holds a region, and its name."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()
        process.kill()


def test_a_region_is_named_by_its_process_and_goes_when_it_is_removed(folder: Path) -> None:
    region = Region(8192)
    path = folder / region.name
    assert f"_{os.getpid()}_" in region.name
    assert (path.stat().st_size, path.stat().st_mode & 0o777, len(region.memory)) == (8192, 0o600, 8192)
    assert region.key == f"/{region.name}"
    assert is_ours(region.key)
    region.remove()
    region.remove()
    assert region.removed
    assert list(folder.iterdir()) == []


def test_a_living_process_keeps_its_regions_and_a_killed_one_does_not(folder: Path) -> None:
    with holder(folder) as (process, name):
        assert not sweep_dead(name)
        assert sweep_all() == 0
        assert (folder / name).exists()
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert (folder / name).exists(), "nobody could clear up"
        assert sweep_all() == 1
    assert list(folder.iterdir()) == []
    assert sweep_dead(name), "one that is not there is as good as swept"


def test_what_is_of_others_is_left_alone(folder: Path) -> None:
    others = [
        folder / name for name in ("auralsam2_77_abc_stage", "auralsam2_local_x", "auralsam2_local_1_xyz", "psm_1")
    ]
    for path in others:
        path.write_text("")
        assert not is_ours(path.name)
    link = folder / f"auralsam2_local_1_{'0' * 16}"
    link.symlink_to(others[0])
    assert sweep_all() == 0
    assert sorted(folder.iterdir()) == sorted([*others, link])


def test_a_system_without_such_memory_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_regions, "FOLDER", folder / "none")
    assert sweep_all() == 0
    with pytest.raises(ConfigError, match="local_memory is for Linux"):
        Region(4096)


def test_no_room_is_an_error_that_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(ConfigError, match=r"no room for a region of 8 KiB: No space left on device.*--shm-size"):
        Region(8192)
    assert list(folder.iterdir()) == []
