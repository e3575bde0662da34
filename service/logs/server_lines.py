"""The server's own lines: how bad each is, and which of them a person who watches a terminal needs to see."""

import re

from service.logs.events import ERROR, INFO, SERVER, WARNING, Event

# "E1127 06:00:00.123456 4711 model.cc:12] words", as glog has it. What follows without a head belongs to it.
_HEAD = re.compile(r"^([IWEF])\d{4} \d\d:\d\d:\d\d\.\d+ ")
_LEVELS = {"I": INFO, "W": WARNING, "E": ERROR, "F": ERROR}
# Of the program itself, or of a Python that runs a stage.
_BARE_ERROR = re.compile(r"^error: |^Traceback|^\w*(?:Error|Exception): |terminate called")
# What a server says as a warning or an error on every machine without a GPU. Where one is needed, nothing of it is.
_NOISE = re.compile(r"CUDA|Cuda|NVML|DCGM|pinned")


class ServerLines:
    """Makes events of one server's lines, in their order.

    Args:
        needs_gpu: whether the build does; then no line about one is noise.
    """

    def __init__(self, *, needs_gpu: bool) -> None:
        self._needs_gpu = needs_gpu
        self._level, self._noisy = INFO, False

    def event(self, line: str) -> Event:
        """Tell of a line. It is quiet unless it warns of something that can be wrong here."""
        head = _HEAD.match(line)
        if head is not None:
            self._level, self._noisy = _LEVELS[head[1]], self.is_noise(line)
        elif _BARE_ERROR.search(line):
            self._level, self._noisy = ERROR, self.is_noise(line)
        return Event(SERVER, line, level=self._level, quiet=self._level == INFO or self._noisy)

    def is_noise(self, line: str) -> bool:
        """Tell whether a line speaks of GPUs on a machine that needs none."""
        return not self._needs_gpu and bool(_NOISE.search(line))
