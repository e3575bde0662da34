"""Leaves nothing behind: ends every process of a launch, and removes its shared memory and its folder.

Used in two ways. The launcher calls `reap` when it stops a server. And it starts this file as a small process of its
own, which waits for the launcher's end of a pipe to close: so a launcher that is killed outright is cleaned up after
as well, which neither a signal handler nor the server's parent-death signal (it does not reach the stages) can do.
Standard library only, for it runs as a plain file.
"""

import contextlib
import os
import shutil
import signal
import sys
import time
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")


def processes_of(mark: str) -> list[int]:
    """Find every process that inherited AURALSAM2_LAUNCH=mark, zombies aside. Marks are unique, pids are not."""
    wanted = f"AURALSAM2_LAUNCH={mark}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


def shared_memory_of(mark: str) -> list[Path]:
    """List the files in /dev/shm whose names begin with the mark's."""
    return sorted(SHARED_MEMORY.glob(f"{mark}*"))


def reap(mark: str, folder: Path | None = None, patience_s: float = 10.0) -> list[int]:
    """Kill what is left of a launch, then remove its shared memory and folder. Returns the pids that would not go."""
    deadline = time.monotonic() + patience_s
    while left := processes_of(mark):
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            break
        time.sleep(0.02)
    for path in shared_memory_of(mark):
        path.unlink(missing_ok=True)
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
    return left


def main() -> None:
    """Wait for the launcher to end, then clear up after it."""
    mark, folder = sys.argv[1:]
    # Ctrl-C at a terminal and a SIGTERM to a whole service are the launcher's to answer; this one goes when it is gone.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if sys.stdin.buffer.read() != b"done":
        reap(mark, Path(folder))


if __name__ == "__main__":
    main()
