"""What a first start says while it compiles: which part it is at, and about how long is left."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

# Seconds that Inductor took of each stage's first call, hiera_base_plus at 1024 px on one H200 with 16 cores (a
# prototype, 2026-11-26; vggish was not timed and has no part of its own there). Only their ratios are used.
COMPILING = {"vggish": 3.0, "hiera": 46.0, "aural_fuser": 27.0, "sam2_decoder": 48.0}


class Progress:
    """Goes through parts of known shares, and scales what is left by what is done."""

    def __init__(
        self,
        shares: Mapping[str, float],
        report: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._shares, self._report, self._clock = shares, report, clock
        self._began = clock()
        self._done = 0.0
        self._num_done = 0

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Report the part before it begins; how long is left only once a part has shown how fast it goes."""
        total = sum(self._shares.values())
        left = ""
        if self._done:
            left_s = (self._clock() - self._began) * (total - self._done) / self._done
            left = f", about {left_s:.0f} s left"
        self._report(f"compiling {name}, {self._num_done + 1} of {len(self._shares)}{left}")
        yield
        self._done += self._shares[name]
        self._num_done += 1
