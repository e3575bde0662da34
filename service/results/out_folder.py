"""The folder of a run's results: a run's files come in together when it is done, and those of an earlier run go out.

A run writes into a folder of its own inside, `.auralsam2-unfinished-*`. At the end the files of earlier runs are
removed, and the new ones take their places, result.json last; its list `written` says which files are ours. So a run
that fails or is interrupted removes nothing, and what a killed one left is cleared by the next. Files of the user's
own stay, and links are replaced or removed themselves: what they point at is never written.
"""

import errno
import fcntl
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from auralsam2_client.errors import BadInput
from auralsam2_client.run_files import OVERLAY, RESULT, written_files

_STAGE = ".auralsam2-unfinished-"
# Of versions that wrote in place, when they were killed.
_PARTIAL = (f".{OVERLAY}.partial", f"{RESULT}.partial")


@contextmanager
def results_into(out_dir: Path) -> Iterator[Path]:
    """Give an empty folder to write a run's files into; they are in `out_dir` when the block ends without an error.

    `out_dir` is made if it is missing, and goes again if nothing comes in. RESULT has to be among the files, and to
    be written last.

    Raises: BadInput when the folder cannot be made or written.
    """
    missing = [folder for folder in (out_dir, *out_dir.parents) if not folder.exists()]
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        stage = Path(tempfile.mkdtemp(prefix=_STAGE, dir=out_dir))
    except OSError as error:
        raise BadInput(f"{out_dir} cannot be made a folder: {error.strerror}. Choose another --out.") from error
    lock = os.open(stage, os.O_RDONLY)
    try:
        # Held as long as the run lives: by it a later run tells a folder that was left from one in use.
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield stage
        try:
            with _uninterrupted():
                _take_over(stage, out_dir)
        except OSError as error:
            raise BadInput(f"{out_dir} cannot be written: {error.strerror}. Choose another --out.") from error
    finally:
        os.close(lock)
        shutil.rmtree(stage, ignore_errors=True)
        # A folder that holds something stays.
        with suppress(OSError):
            for folder in missing:
                folder.rmdir()


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait for the few renames."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _take_over(stage: Path, out_dir: Path) -> None:
    new = sorted(path.name for path in stage.iterdir())
    for name in new:
        if _is_folder(out_dir / name):
            raise IsADirectoryError(errno.EISDIR, f"{name} is a folder there", name)
    for left in _left_stages(out_dir, stage):
        _remove(out_dir, _moved_from(left))
        shutil.rmtree(left, ignore_errors=True)
    _remove(out_dir, written_files(out_dir) - {*new, RESULT})
    for name in _PARTIAL:
        (out_dir / name).unlink(missing_ok=True)
    for name in sorted(new, key=lambda name: name == RESULT):
        (stage / name).replace(out_dir / name)


def _left_stages(out_dir: Path, own: Path) -> list[Path]:
    """Folders of runs that were killed. Those of runs under way are locked."""
    return [path for path in out_dir.glob(f"{_STAGE}*") if path != own and _is_left(path)]


def _is_left(stage: Path) -> bool:
    try:
        folder = os.open(stage, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(folder)
    return True


def _moved_from(stage: Path) -> set[str]:
    """What a run that was killed had moved already: its list is written last, when all else is there."""
    return {name for name in written_files(stage) if not os.path.lexists(stage / name)}


def _remove(out_dir: Path, names: set[str]) -> None:
    for name in names:
        if not _is_folder(out_dir / name):
            (out_dir / name).unlink(missing_ok=True)


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()
