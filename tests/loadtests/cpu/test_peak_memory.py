"""Memory of several processes: the sum at one moment, freed memory included, shared memory once."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtests.cpu.peak_memory import PeakMemory

MIB = 1 << 20
BLOCK = 200 * MIB
# Grows by a block at every line it reads, holds it until the next, and then gives it back.
PROGRAM = f"""
import mmap, sys
for line in sys.stdin:
    block = mmap.mmap(-1, {BLOCK}, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for start in range(0, {BLOCK}, 4096):
        block[start] = 1
    print("held", flush=True)
    sys.stdin.readline()
    block.close()
    print("freed", flush=True)
"""


class Grower:
    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def step(self) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()


@pytest.fixture
def growers() -> Iterator[list[Grower]]:
    growers = [Grower(), Grower()]
    yield growers
    for grower in growers:
        grower.process.kill()
        grower.process.communicate(timeout=10)


def test_the_peak_is_of_one_moment_and_outlives_it(growers: list[Grower]) -> None:
    """Two processes that hold a block one after the other: never two blocks at once."""
    peak = PeakMemory(lambda: [grower.process.pid for grower in growers], "no-such-region")
    with peak:
        pass
    before = peak.peak_bytes
    for grower in growers:
        assert grower.step() == "held"
        with peak:
            pass
        assert grower.step() == "freed"
    assert BLOCK <= peak.peak_bytes - before < 1.2 * BLOCK
    assert [grower.step() for grower in growers] == ["held", "held"]
    with peak:
        pass
    assert 2 * BLOCK <= peak.peak_bytes - before < 2.2 * BLOCK


def test_shared_memory_is_counted_once_and_only_the_servers() -> None:
    mark = f"auralsam2_peak_{os.getpid()}_"
    region, other = Path("/dev/shm") / f"{mark}region", Path("/dev/shm") / f"other_{os.getpid()}"
    readings = []
    try:
        for path in (other, region):
            peak = PeakMemory(lambda: [os.getpid(), os.getppid()], mark)
            with peak:
                pass
            readings.append(peak.peak_bytes)
            with path.open("wb") as file:
                # In pieces: the allocator of a process that has done much keeps a large block that was given back.
                for _ in range(BLOCK // MIB):
                    file.write(bytes(MIB))
        peak = PeakMemory(lambda: [os.getpid(), os.getppid()], mark)
        with peak:
            pass
        readings.append(peak.peak_bytes)
    finally:
        for path in (other, region):
            path.unlink(missing_ok=True)
    assert abs(readings[1] - readings[0]) < 50 * MIB
    assert abs(readings[2] - readings[1] - BLOCK) < 50 * MIB


def test_a_process_that_has_gone_holds_nothing(growers: list[Grower]) -> None:
    gone = growers[0].process
    gone.kill()
    gone.wait(10)
    peak = PeakMemory(lambda: [gone.pid], "no-such-region")
    with peak:
        pass
    assert peak.peak_bytes == 0
