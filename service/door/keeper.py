"""Leaves no door behind: ends nginx and removes its folder when the service that started both was killed.

The service holds the other end of a pipe. nginx writes over its own variables, so that it is known by its process
group. Standard library only, for it runs as a plain file.
"""

import contextlib
import os
import shutil
import signal
import sys


def end_group(group: int) -> None:
    """Kill a process group, if there is one."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def main() -> None:
    """Wait for the service to end, then clear up after it."""
    group, folder = sys.argv[1:]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if sys.stdin.buffer.read() != b"done":
        end_group(int(group))
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
