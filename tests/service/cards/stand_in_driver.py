"""Stand-ins for NVIDIA's driver: one that says what a test wants, and its management library underneath."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from service.cards.driver import Card, Seen

GIB = 1 << 30
H200 = Card(0, "NVIDIA H200", 90, 139 * GIB, 130 * GIB, "GPU-aaaaaaaa")
SECOND_H200 = replace(H200, index=1, uuid="GPU-bbbbbbbb")
L4 = Card(1, "NVIDIA L4", 89, 22 * GIB, 20 * GIB, "GPU-cccccccc")
NO_DRIVER = Seen(reason="no NVIDIA driver is installed (libnvidia-ml.so.1 is not found)")


def seeing(*cards: Card, version: str = "580.95.05", cuda: tuple[int, int] | None = (13, 0), reason: str = "") -> Seen:
    return Seen(version, cuda, cards, reason)


@dataclass
class StandInDriver:
    """Shows `seen`, which a test may change between two looks."""

    seen: Seen
    looks: int = 0

    def look(self) -> Seen:
        self.looks += 1
        return self.seen


@dataclass
class FakeLibrary:
    """The functions of libnvidia-ml that are called, by its names. `failing`: statuses in place of answers."""

    # ruff: noqa: N802

    cards: list[Card] = field(default_factory=lambda: [H200])
    failing: dict[str, int] = field(default_factory=dict)
    lost: frozenset[int] = frozenset()
    is_open: bool = False

    def __post_init__(self) -> None:
        # A function, so that its type of answer can be set, as ctypes has it.
        def error_string(status: int) -> bytes:
            return {9: b"Driver Not Loaded", 15: b"GPU is lost", 18: b"Driver/library version mismatch"}.get(
                status, b"?"
            )

        self.nvmlErrorString: Callable[[int], bytes] = error_string

    def __getattribute__(self, name: str) -> Any:
        failing = object.__getattribute__(self, "__dict__").get("failing", {})
        return (lambda *_: failing[name]) if name in failing else object.__getattribute__(self, name)

    def nvmlInit_v2(self) -> int:
        self.is_open = True
        return 0

    def nvmlShutdown(self) -> int:
        self.is_open = False
        return 0

    def nvmlSystemGetDriverVersion(self, text: Any, size: Any) -> int:
        return self._write(text, size, "580.95.05")

    def nvmlSystemGetCudaDriverVersion_v2(self, number: Any) -> int:
        number._obj.value = 13010
        return 0

    def nvmlDeviceGetCount_v2(self, count: Any) -> int:
        assert self.is_open
        count._obj.value = len(self.cards)
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, place: Any, handle: Any) -> int:
        handle._obj.value = place.value + 1
        return 15 if place.value in self.lost else 0

    def nvmlDeviceGetName(self, handle: Any, text: Any, size: Any) -> int:
        return self._write(text, size, self._card(handle).name)

    def nvmlDeviceGetUUID(self, handle: Any, text: Any, size: Any) -> int:
        return self._write(text, size, self._card(handle).uuid)

    def nvmlDeviceGetCudaComputeCapability(self, handle: Any, major: Any, minor: Any) -> int:
        capability = self._card(handle).capability
        assert capability is not None
        major._obj.value, minor._obj.value = divmod(capability, 10)
        return 0

    def nvmlDeviceGetMemoryInfo(self, handle: Any, memory: Any) -> int:
        card = self._card(handle)
        memory._obj.total, memory._obj.free = card.memory_bytes, card.free_bytes
        return 0

    def _card(self, handle: Any) -> Card:
        place: int = handle.value - 1
        return self.cards[place]

    @staticmethod
    def _write(text: Any, size: Any, words: str) -> int:
        assert len(words) < size.value <= len(text)
        text.value = words.encode()
        return 0
