"""The CUDA driver, asked directly: which card, how much memory, and buffers to run an engine on. No torch needed."""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from export.errors import ExportError

# Attributes of a device, by the driver's numbers.
CAPABILITY_MAJOR, CAPABILITY_MINOR = 75, 76
OUT_OF_MEMORY = 2

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Card:
    """A GPU. `capability` is 10 * major + minor, e.g. 89."""

    name: str
    capability: int


def load_driver() -> Any | None:
    """Load the driver's library; None where there is none."""
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None


def current_card(driver: Any | None = None) -> Card | None:
    """Ask the driver for the first GPU. None: no driver, or no GPU."""
    driver = load_driver() if driver is None else driver
    if driver is None:
        return None
    device, name, major, minor = ctypes.c_int(), ctypes.create_string_buffer(256), ctypes.c_int(), ctypes.c_int()
    answers: tuple[Callable[[], int], ...] = (
        lambda: driver.cuInit(0),
        lambda: driver.cuDeviceGet(ctypes.byref(device), 0),
        lambda: driver.cuDeviceGetName(name, len(name), device),
        lambda: driver.cuDeviceGetAttribute(ctypes.byref(major), CAPABILITY_MAJOR, device),
        lambda: driver.cuDeviceGetAttribute(ctypes.byref(minor), CAPABILITY_MINOR, device),
    )
    if any(ask() != 0 for ask in answers):
        return None
    return Card(name.value.decode(), 10 * major.value + minor.value)


class CudaMemory:
    """Buffers on the first GPU, in its primary context, which the CUDA runtime inside TensorRT shares.

    Args:
        driver: of `load_driver`.
    Raises: ExportError where there is no driver or it refuses; too little memory is told with both figures.
    """

    def __init__(self, driver: Any | None) -> None:
        if driver is None:
            raise ExportError("an engine runs on an NVIDIA GPU, and this machine has no CUDA driver.")
        self._driver = driver
        self._held: list[int] = []
        device, context = ctypes.c_int(), ctypes.c_void_p()
        self._call("cuInit", 0)
        self._call("cuDeviceGet", ctypes.byref(device), 0)
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self._call("cuCtxSetCurrent", context)

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self._driver, name)(*arguments)
        if status != 0:
            raise ExportError(f"the CUDA driver refuses {name} (error {status}).")

    def free_bytes(self) -> tuple[int, int]:
        """Free and total memory of the card."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self._call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return free.value, total.value

    def allocate(self, num_bytes: int) -> int:
        """Allocate a buffer of at least one byte, and return its address; `close` frees it."""
        address = ctypes.c_uint64()
        status = self._driver.cuMemAlloc_v2(ctypes.byref(address), ctypes.c_size_t(max(num_bytes, 1)))
        if status == OUT_OF_MEMORY:
            free, total = self.free_bytes()
            raise ExportError(
                f"not enough GPU memory: {num_bytes} bytes are needed, {free} of {total} are free. End what else runs"
                " on the card, or export fewer frames or smaller images."
            )
        if status != 0:
            raise ExportError(f"the CUDA driver refuses cuMemAlloc_v2 (error {status}).")
        self._held.append(address.value)
        return address.value

    def upload(self, address: int, array: Array) -> None:
        whole = np.ascontiguousarray(array)
        self._call(
            "cuMemcpyHtoD_v2",
            ctypes.c_uint64(address),
            ctypes.c_void_p(whole.ctypes.data),
            ctypes.c_size_t(whole.nbytes),
        )

    def download(self, address: int, array: Array) -> None:
        """Fill `array`, which lies contiguous."""
        assert array.flags.c_contiguous
        self._call(
            "cuMemcpyDtoH_v2",
            ctypes.c_void_p(array.ctypes.data),
            ctypes.c_uint64(address),
            ctypes.c_size_t(array.nbytes),
        )

    def synchronize(self) -> None:
        """Wait for all that was started; what failed on the card is told here."""
        self._call("cuCtxSynchronize")

    def close(self) -> None:
        while self._held:
            self._call("cuMemFree_v2", ctypes.c_uint64(self._held.pop()))
