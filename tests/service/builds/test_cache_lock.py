"""Two servers may be started on one cache of compiled models at once: the second waits for the first."""

import errno
import fcntl
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from auralsam2_client.errors import ServerTimeout, ServerUnavailable
from service.builds.cache_lock import LOCK, alone_in_cache
from service.builds.compiled_models import CheckedModels, check_compiled_models, record_compiled_models
from service.server.launcher import Launcher
from tests.service.toy import build_folder as toy
from tests.service.toy.running import toy_config


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def held(cache: Path) -> Iterator[int]:
    """The lock of a start that is under way; closed, it has ended."""
    lock = os.open(cache / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    yield lock
    os.close(lock)


def test_a_start_waits_for_what_another_is_compiling(cache: Path) -> None:
    blob = cache / "sound.blob"
    lines: list[str] = []
    with alone_in_cache(cache, lambda: False, math.inf):
        blob.write_bytes(b"half")
        first = os.open(cache / LOCK, os.O_RDWR)
    fcntl.flock(first, fcntl.LOCK_EX)  # the same start, as the second one sees it

    def first_ends() -> bool:
        blob.write_bytes(b"whole")
        record_compiled_models(cache, CheckedModels())
        fcntl.flock(first, fcntl.LOCK_UN)
        return False

    with alone_in_cache(cache, first_ends, math.inf, lines.append):
        assert list(check_compiled_models(cache).digests) == ["sound.blob"]
    os.close(first)
    assert blob.read_bytes() == b"whole"
    assert len(lines) == 1
    assert str(cache) in lines[0]


def test_a_wait_ends_when_the_start_is_broken_off(cache: Path, held: int) -> None:
    with pytest.raises(ServerUnavailable, match="broken off"), alone_in_cache(cache, lambda: True, math.inf):
        pass


def test_a_wait_ends_at_the_deadline_with_the_wait_the_limit_and_the_way_out(cache: Path, held: int) -> None:
    words = rf"{cache} .* \d+ s; ready_timeout_s .* --cache-dir"
    with pytest.raises(ServerTimeout, match=words), alone_in_cache(cache, lambda: False, -math.inf):
        pass


def test_a_file_system_without_locks_is_used_without(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with alone_in_cache(cache, lambda: False, -math.inf):
        assert (cache / LOCK).exists()


def test_a_start_that_died_holds_nothing(cache: Path) -> None:
    took = (
        f"import fcntl, os; fcntl.flock(os.open({str(cache / LOCK)!r}, os.O_RDWR | os.O_CREAT, 0o600), fcntl.LOCK_EX)"
    )
    subprocess.run([sys.executable, "-c", took], check=True)
    with alone_in_cache(cache, lambda: False, -math.inf):
        assert (cache / LOCK).stat().st_mode & 0o777 == 0o600


def test_a_lock_is_never_written_through_a_link(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside") / "file"
    (cache / LOCK).symlink_to(outside)
    with alone_in_cache(cache, lambda: False, math.inf):
        assert not outside.exists()


def test_a_folder_that_is_missing_needs_no_lock(cache: Path) -> None:
    with alone_in_cache(cache / "missing", lambda: False, math.inf):
        assert not (cache / "missing").exists()


def test_a_server_waits_for_another_that_starts_on_the_same_cache(tmp_path: Path) -> None:
    build = toy.write(tmp_path / "build")
    unfinished = build / "cache" / "other.blob"
    unfinished.write_bytes(b"half")
    lock = os.open(build / "cache" / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    lines: list[str] = []

    def sink(line: str) -> None:
        lines.append(line)
        if line.startswith("supervisor: Waiting") and unfinished.exists():
            record_compiled_models(build / "cache", CheckedModels())
            fcntl.flock(lock, fcntl.LOCK_UN)

    with Launcher(toy_config(build), sink=sink) as launcher:
        assert launcher.ready
        assert unfinished.read_bytes() == b"half"
    os.close(lock)
    assert [line for line in lines if line.startswith("supervisor: Waiting")]
