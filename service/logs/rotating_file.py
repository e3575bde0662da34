"""A log file that never grows beyond its bound: at a size it is renamed, and the oldest of its kind goes."""

import errno
import fcntl
import os
import stat
from pathlib import Path

from auralsam2_client.errors import ConfigError

# The file and four older ones, FILE.1 to FILE.4: below 20 MB in all.
FILE_BYTES = 3_900_000
NUM_FILES = 5
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class RotatingFile:
    """Appends lines to a file for this user alone. For one thread at a time.

    It follows no link, so that nobody can have the service write into another file, and it takes a lock, since two
    services that rotate one file would lose lines.

    Raises: ConfigError where the file cannot be opened, is none, or is another service's.
    """

    def __init__(self, path: Path, *, file_bytes: int = FILE_BYTES, num_files: int = NUM_FILES) -> None:
        self.path, self._file_bytes, self._num_files = path, file_bytes, num_files
        try:
            self._file = self._open()
        except OSError as error:
            raise ConfigError(f"{path} cannot be the log: {_why(error)}. Name another with --log-file.") from error
        self._size = os.fstat(self._file).st_size

    def write(self, line: str) -> None:
        """Append a line.

        Raises: OSError when the disk is full, or the file cannot be rotated; the line is lost then.
        """
        data = line.encode("utf-8", "backslashreplace") + b"\n"
        if self._size and self._size + len(data) > self._file_bytes:
            self._rotate()
        self._size += os.write(self._file, data)

    def close(self) -> None:
        """Close the file. May be called twice."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    def _rotate(self) -> None:
        for number in range(self._num_files - 1, 0, -1):
            older = self._numbered(number - 1)
            # Renaming moves a link, and does not follow it.
            if older.is_symlink() or older.exists():
                older.replace(self._numbered(number))
        opened = self._open()
        os.close(self._file)
        self._file, self._size = opened, os.fstat(opened).st_size

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}") if number else self.path

    def _open(self) -> int:
        opened = os.open(self.path, _FLAGS, 0o600)
        try:
            found = os.fstat(opened)
            if not stat.S_ISREG(found.st_mode):
                raise OSError(errno.EINVAL, "it is no file")
            if found.st_nlink != 1:
                raise OSError(errno.EMLINK, "it has a second name, a hard link")
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.fchmod(opened, 0o600)
        except BaseException:
            os.close(opened)
            raise
        return opened


def _why(error: OSError) -> str:
    reasons = {errno.ELOOP: "it is a link, and links are not followed", errno.EAGAIN: "another service writes it"}
    return reasons.get(error.errno or 0, error.strerror or str(error))
