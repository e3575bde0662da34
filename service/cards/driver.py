"""What NVIDIA's driver says of this machine: its version, the CUDA that it runs, the cards and their memory.

The driver's management library is asked (libnvidia-ml, which nvidia-smi asks too). It makes no CUDA context, so that
looking takes no memory on a card, and needs neither torch nor a program on PATH.
"""

import ctypes
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from service.cards.visibility import VARIABLE, shown

LIBRARY = "libnvidia-ml.so.1"
# A program built for a CUDA of one major number runs on the drivers of that number and on newer ones (NVIDIA's table of
# minor version compatibility): by that number, the least driver.
LEAST_DRIVER = {11: 450, 12: 525, 13: 580}
_SUCCESS = 0
# The longest texts that the library writes: name, UUID, version.
_TEXT_BYTES = 96


@dataclass(frozen=True)
class Card:
    """One card, as it was at one moment. None: the driver does not say, as where CPU and GPU share their memory."""

    index: int
    """CUDA's: a server is told of its cards by it. In the order of PCI buses (CUDA_DEVICE_ORDER=PCI_BUS_ID)."""
    name: str
    capability: int | None
    """10 x major + minor: 90 is 9.0."""
    memory_bytes: int | None
    free_bytes: int | None
    uuid: str
    """The same at every start, "GPU-..."; CUDA_VISIBLE_DEVICES takes it."""

    def __str__(self) -> str:
        capability = "" if self.capability is None else f" (compute capability {self.capability / 10:.1f})"
        return f"{self.name}{capability}"


@dataclass(frozen=True)
class Seen:
    """What one look showed. `version` is None where there is no driver, or where it does not answer."""

    version: str | None = None
    """Of the driver, as "580.95.05"."""
    cuda: tuple[int, int] | None = None
    """The newest CUDA that the driver runs, as (13, 0)."""
    cards: tuple[Card, ...] = ()
    """Those that CUDA shows, as CUDA_VISIBLE_DEVICES allows."""
    reason: str = ""
    """Why there is no driver, no card, or one card less, as the rest of a sentence."""

    def __str__(self) -> str:
        if self.version is None:
            return self.reason
        cuda = "" if self.cuda is None else f", CUDA up to {version_text(self.cuda)}"
        return f"driver {self.version}{cuda}"


class Driver(Protocol):
    """The driver of this machine, or a stand-in for it in tests. Every look asks again."""

    def look(self) -> Seen: ...


class ManagementLibrary:
    """The driver by its management library.

    Args:
        load: returns the library, as ctypes loads it. Raises: OSError where there is none.
    """

    def __init__(self, load: Callable[[], Any] = lambda: ctypes.CDLL(LIBRARY)) -> None:
        self._load = load

    def look(self) -> Seen:
        """Ask for driver and cards. Never raises: what fails is told as the reason."""
        try:
            library = self._load()
        except OSError:
            return Seen(reason=f"no NVIDIA driver is installed ({LIBRARY} is not found)")
        status = library.nvmlInit_v2()
        if status != _SUCCESS:
            return Seen(reason=f"NVIDIA's driver does not answer ({_words(library, status)})")
        try:
            return _read(library)
        finally:
            library.nvmlShutdown()


def installed_driver() -> Driver:
    """Reach the driver of this machine, which may be none: a look then says so."""
    return ManagementLibrary()


def version_text(version: tuple[int, int]) -> str:
    """Write a version of CUDA, as "13.0"."""
    return f"{version[0]}.{version[1]}"


def _read(library: Any) -> Seen:
    version = _text(library.nvmlSystemGetDriverVersion) or "of unknown version"
    number, count = ctypes.c_int(), ctypes.c_uint()
    asked = library.nvmlSystemGetCudaDriverVersion_v2(ctypes.byref(number))
    # 13000 is 13.0, 12080 is 12.8.
    cuda = (number.value // 1000, number.value % 1000 // 10) if asked == _SUCCESS else None
    status = library.nvmlDeviceGetCount_v2(ctypes.byref(count))
    if status != _SUCCESS:
        return Seen(version, cuda, reason=f"the driver cannot count its cards ({_words(library, status)})")
    there: list[tuple[int, Any]] = []
    lost: list[str] = []
    for place in range(count.value):
        handle = ctypes.c_void_p()
        status = library.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(place), ctypes.byref(handle))
        if status == _SUCCESS:
            there.append((place, handle))
        else:
            lost.append(f"card {place} does not answer ({_words(library, status)})")
    chosen = os.environ.get(VARIABLE)
    names = [(str(place), _text(library.nvmlDeviceGetUUID, handle)) for place, handle in there]
    positions = shown(names, chosen)
    cards = tuple(
        _card(library, index, there[position][1], names[position][1]) for index, position in enumerate(positions)
    )
    if there and not cards:
        lost.append(f"{VARIABLE}={chosen} hides all {len(there)}")
    return Seen(version, cuda, cards, "; ".join(lost) or ("" if cards else "the driver has no card"))


def _card(library: Any, index: int, handle: Any, uuid: str) -> Card:
    major, minor, memory = ctypes.c_int(), ctypes.c_int(), _Memory()
    asked = library.nvmlDeviceGetCudaComputeCapability(handle, ctypes.byref(major), ctypes.byref(minor))
    capability = 10 * major.value + minor.value if asked == _SUCCESS else None
    measured = library.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)) == _SUCCESS
    total, free = (memory.total, memory.free) if measured else (None, None)
    return Card(index, _text(library.nvmlDeviceGetName, handle) or "a card", capability, total, free, uuid)


class _Memory(ctypes.Structure):
    """`nvmlMemory_t`: bytes."""

    _fields_ = [("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong)]


def _text(ask: Callable[..., int], *handle: Any) -> str:
    """Ask for a text; "" where it is refused."""
    text = ctypes.create_string_buffer(_TEXT_BYTES)
    return text.value.decode(errors="replace") if ask(*handle, text, ctypes.c_uint(_TEXT_BYTES)) == _SUCCESS else ""


def _words(library: Any, status: int) -> str:
    """The library's own words for a status."""
    library.nvmlErrorString.restype = ctypes.c_char_p
    words = library.nvmlErrorString(status)
    return words.decode(errors="replace") if words else f"error {status}"
