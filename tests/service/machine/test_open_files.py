"""Limits of open files, of processes that this test starts."""

import resource
import subprocess
import sys

from service.machine.open_files import NEEDED, is_full, shortage

RAISE = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 512))
from service.machine.open_files import hard_limit, raise_limit
print(raise_limit(), hard_limit())
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def test_the_limit_is_raised_as_far_as_it_may() -> None:
    done = subprocess.run([sys.executable, "-c", RAISE], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["512 512", "512 512"]


def test_too_few_are_said_with_the_way_out() -> None:
    assert shortage(NEEDED) == ""
    assert f"{NEEDED - 1} open files are allowed" in shortage(NEEDED - 1)
    assert "LimitNOFILE=" in shortage(256)


def test_a_process_that_holds_all_it_may_is_full() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        _, hard = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
        assert not is_full(process.pid)
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (3, hard))
        assert is_full(process.pid)
        process.communicate(b"\n")
    assert not is_full(process.pid), "one that is gone is not full"
