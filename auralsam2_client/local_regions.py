"""Regions of this machine's shared memory, as files that their process holds a lock on: who dies lets go, and is swept.

A lock of the kernel's ends with its process however that ends, also where two containers share the memory and not the
numbers of processes; a process that was forked off keeps it too. Standard library alone.
"""

import contextlib
import errno
import mmap
import os
import re
import secrets
from pathlib import Path

from auralsam2_client.errors import ConfigError

FOLDER = Path("/dev/shm")
_NAME = re.compile(r"auralsam2_local_\d+_[0-9a-f]{16}")


class Region:
    """Shared memory of `num_bytes`, named by this process, for this user alone. `remove` it; a killed process need not.

    Raises: ConfigError when there is no room for it, or no such memory.
    """

    def __init__(self, num_bytes: int) -> None:
        self.num_bytes = num_bytes
        self.name = f"auralsam2_local_{os.getpid()}_{secrets.token_hex(8)}"
        self._path = FOLDER / self.name
        try:
            self._file = _create_locked(self._path)
        except (OSError, ImportError) as error:
            raise ConfigError(
                f"{FOLDER} takes no region ({error}); local_memory is for Linux. Leave it out."
            ) from error
        try:
            # What is promised here and not there would end this process, or the server's, when it is written.
            os.posix_fallocate(self._file, 0, num_bytes)
            self.memory = mmap.mmap(self._file, num_bytes)
        except OSError as error:
            self._path.unlink(missing_ok=True)
            os.close(self._file)
            raise ConfigError(
                f"{FOLDER} has no room for a region of {num_bytes >> 10} KiB: {error.strerror}. Give it more (in a"
                " container: --shm-size), or leave local_memory out."
            ) from error

    @property
    def key(self) -> str:
        """The name by which another process of this machine opens it."""
        return f"/{self.name}"

    @property
    def removed(self) -> bool:
        """Whether `remove` was called."""
        return self._file < 0

    def remove(self) -> None:
        """Remove it. Who has it mapped keeps the memory; arrays on it here must be gone. May be called twice."""
        if self.removed:
            return
        self._path.unlink(missing_ok=True)
        with contextlib.suppress(BufferError):
            self.memory.close()
        os.close(self._file)
        self._file = -1


def is_ours(key: str) -> bool:
    """Tell whether a key names a region of some client, by its form."""
    return _NAME.fullmatch(key.removeprefix("/")) is not None


def sweep_dead(key: str) -> bool:
    """Remove a client's region if its process is gone; return whether it is not there now.

    One of another user, which cannot be opened here, counts as alive.
    """
    path = FOLDER / key.removeprefix("/")
    try:
        file = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        lock(file)
        path.unlink(missing_ok=True)
    except OSError:
        return False
    finally:
        os.close(file)
    return True


def sweep_all() -> int:
    """Remove every region whose process is gone; return how many there were."""
    return sum(sweep_dead(path.name) for path in FOLDER.glob("auralsam2_local_*") if is_ours(path.name))


def lock(file: int) -> None:
    """Take the lock of an open file, which goes with its last descriptor. Raises: OSError when another has it."""
    # Not on Windows, where the rest of the client runs.
    import fcntl

    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _create_locked(path: Path) -> int:
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            lock(file)
            # A sweep between the two calls would have taken it for a dead one's.
            if path.stat().st_ino == os.fstat(file).st_ino:
                return file
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EWOULDBLOCK):
                os.close(file)
                raise
        os.close(file)
