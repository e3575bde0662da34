"""Two clips in flight: while one computes, the next comes in and the one before goes out.

Three threads, each with one task: the caller's copies a clip into page-locked memory and starts its way to the device;
one computes, clip after clip; one waits for answers on their way back and hands them out. On a CPU the same threads do
the same things, and the copies are plain ones.
"""

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from auralsam2_client.contract import TensorSpec

from ...engine import Array
from .captured import Captured, torch_dtype
from .lanes import Lane, Mark

NUM_SLOTS = 2


class Slot:
    """The memory of one clip in flight: on the host, page-locked for a card, and on the device."""

    def __init__(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], device: torch.device) -> None:
        locked = device.type == "cuda"

        def host(specs: Sequence[TensorSpec]) -> dict[str, Tensor]:
            return {spec.name: torch.zeros(spec.shape, dtype=torch_dtype(spec), pin_memory=locked) for spec in specs}

        def there(specs: Sequence[TensorSpec]) -> dict[str, Tensor]:
            return {spec.name: torch.zeros(spec.shape, dtype=torch_dtype(spec), device=device) for spec in specs}

        self.given, self.arrived = host(inputs), there(inputs)
        self.computed, self.answer = there(outputs), host(outputs)
        self.uploaded, self.downloaded = Mark(device), Mark(device)


class Flight:
    """The slots and lanes of one device. `upload` may be called by one thread, the rest by another."""

    def __init__(
        self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], device: torch.device, slots: int = NUM_SLOTS
    ) -> None:
        self._copies, self._compute = Lane(device), Lane(device)
        self._free: queue.SimpleQueue[Slot] = queue.SimpleQueue()
        for _ in range(slots):
            self._free.put(Slot(inputs, outputs, device))
        self._computed = Mark(device)

    def upload(self, given: Mapping[str, Array | Tensor]) -> Slot:
        """Take a free slot, wait for one if need be, and send a clip's arrays on their way to the device.

        Tensors, which lie on it already, are copied when this returns.

        Raises: what the device failed with; the slot is free again then.
        """
        slot = self._free.get()
        try:
            with self._copies.enter():
                for name, value in given.items():
                    if isinstance(value, Tensor):
                        slot.arrived[name].copy_(value, non_blocking=True)
                        continue
                    np.copyto(slot.given[name].numpy(), value)
                    slot.arrived[name].copy_(slot.given[name], non_blocking=True)
                slot.uploaded.note()
            if any(isinstance(value, Tensor) for value in given.values()):
                # What lies on the card already is another's: of a decoder, or of the request.
                slot.uploaded.wait()
        except Exception:
            self.release(slot)
            raise
        return slot

    def replay(self, graph: Captured, slot: Slot) -> dict[str, Tensor]:
        """Compute a graph on what a slot brought, and wait until it is done; outputs are valid until the next call.

        Raises: what the device failed with.
        """
        with self._compute.enter():
            slot.uploaded.hold_back()
            for name, buffer in graph.inputs.items():
                buffer.copy_(slot.arrived[name], non_blocking=True)
            outputs = graph.replay()
            self._computed.note()
        self._computed.wait()
        return outputs

    def download(self, slot: Slot, outputs: Mapping[str, Tensor], names: Sequence[str]) -> None:
        """Send some outputs on their way back. They may be overwritten at once: they are copied on the device first."""
        with self._compute.enter():
            for name in names:
                slot.computed[name].copy_(outputs[name], non_blocking=True)
            self._computed.note()
        with self._copies.enter():
            self._computed.hold_back()
            for name in names:
                slot.answer[name].copy_(slot.computed[name], non_blocking=True)
            slot.downloaded.note()

    def collect(self, slot: Slot, names: Sequence[str]) -> dict[str, Array]:
        """Wait for what `download` sent; arrays are the slot's own memory, until `release`."""
        slot.downloaded.wait()
        return {name: slot.answer[name].numpy() for name in names}

    def release(self, slot: Slot) -> None:
        """Give a slot back."""
        self._free.put(slot)

    def computing(self) -> Any:
        """Enter the lane of what computes, for whoever computes more than a graph."""
        return self._compute.enter()


class Worker:
    """A thread that does one thing with each item, in order. `close` lets it finish what was given to it.

    `report`: gets a line for an item whose work raised; the thread goes on with the next.
    """

    def __init__(self, name: str, work: Callable[[Any], None], report: Callable[[str], None] = print) -> None:
        self._work, self._report = work, report
        self._items: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def give(self, item: Any) -> None:
        assert item is not None, "None ends the thread"
        self._items.put(item)

    def close(self, timeout_s: float = 30.0) -> None:
        self._items.put(None)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while (item := self._items.get()) is not None:
            try:
                self._work(item)
            except Exception as error:  # noqa: BLE001  (a thread that ends would leave every later caller waiting)
                self._report(f"{self._thread.name}: {error!r}")
            # What it holds, tensors of a card among it, goes now and not when the next one comes.
            del item
