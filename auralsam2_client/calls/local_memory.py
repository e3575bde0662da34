"""Clips by shared memory, for a client on the server's machine: tensors are written where the server reads them."""

import contextlib
import math
import mmap
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tritonclient.grpc as blocking
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from auralsam2_client.calls.wire import (
    CHANNEL_OPTIONS,
    TYPES,
    Arrays,
    Call,
    ClipShape,
    check_outputs,
    encode_request,
    read_answer,
)
from auralsam2_client.calls.wire_errors import WIRE_ERRORS, scrub, translate
from auralsam2_client.card_regions import SUFFIX, LocalRegion
from auralsam2_client.contract import DTYPES, FRAMES, Sizes, TensorSpec, tensor
from auralsam2_client.errors import ConfigError, ServerFault
from auralsam2_client.local_regions import is_ours, sweep_all, sweep_dead

# What is smaller goes with the message, which is sent anyway.
LEAST_BYTES = 4096
_ALIGNMENT = 64
CLOSE_TIMEOUT_S, CLOSE_PATIENCE_S, _PAUSE_S = 2.0, 0.5, 0.01


@dataclass(frozen=True, eq=False)
class Placed:
    """Where the tensors of a call lie in a region: names with offsets, outputs with their form too."""

    inputs: Mapping[str, tuple[int, NDArray[Any]]]
    outputs: Mapping[str, tuple[int, TensorSpec]]
    num_bytes: int
    frames: NDArray[np.uint8] | None = None
    """FRAMES, where they go by the memory of a card."""

    @property
    def card_bytes(self) -> int:
        """Bytes on the card."""
        return 0 if self.frames is None else self.frames.nbytes


def place(call: Call, shape: ClipShape, *, on_card: bool = False) -> Placed:
    """Place what is large of a call, one after the other; FRAMES by themselves where they go by a card's memory.

    Raises: BadInput for an unknown output.
    """
    check_outputs(call.outputs)
    frames = call.tensors.get(FRAMES) if on_card else None
    end = 0
    inputs: dict[str, tuple[int, NDArray[Any]]] = {}
    outputs: dict[str, tuple[int, TensorSpec]] = {}
    for name, value in call.tensors.items():
        if (
            value is not frames
            and value.nbytes >= LEAST_BYTES
            and value.dtype.name in TYPES
            and not value.dtype.hasobject
        ):
            inputs[name] = (end, value)
            end = _aligned(end + value.nbytes)
    for name in call.outputs:
        spec = tensor(name, Sizes(shape.num_frames, shape.image_size, 0))
        # A text's length is not known before it comes.
        if spec.dtype != "STRING" and _num_bytes(spec) >= LEAST_BYTES:
            outputs[name] = (end, spec)
            end = _aligned(end + _num_bytes(spec))
    return Placed(inputs, outputs, end, frames)


class LocalMemory:
    """The regions of one client at one server, which are used again for calls of the same size. For many threads."""

    def __init__(self, url: str, card: int | None = None) -> None:
        """`card`: number of the card by whose memory frames go; None: all goes by the host's."""
        self._url, self.card = url, card
        self._wire = blocking.InferenceServerClient(url, channel_args=CHANNEL_OPTIONS)
        self._lock = threading.Lock()
        self._all: set[LocalRegion] = set()
        self._idle: list[LocalRegion] = []
        # Of calls that were given up: the server may still be at work in them.
        self._retired: list[LocalRegion] = []
        sweep_all()

    def take(self, num_bytes: int, timeout_s: float, card_bytes: int = 0) -> LocalRegion:
        """Take a region that the server has mapped, for one call. `give_back` it after an answer, else `give_up`.

        Raises: ConfigError when the server does not take it, or there is no room for it; what the library raises when
            there is no server.
        """
        wanted = _whole_pages(num_bytes)
        with self._lock:
            fitting = next(
                (each for each in self._idle if (each.num_bytes, each.card_bytes) == (wanted, card_bytes)), None
            )
            if fitting is not None:
                self._idle.remove(fitting)
            retired, self._retired = self._retired, []
        for region in retired:
            if self._let_go(region, timeout_s):
                self._remove(region)
            else:
                self._retire(region)
        return self._register(wanted, card_bytes, timeout_s) if fitting is None else fitting

    def give_back(self, region: LocalRegion) -> None:
        """Keep a region for a later call."""
        with self._lock:
            self._idle.append(region)

    def give_up(self, region: LocalRegion, error: BaseException, deadline: float) -> bool:
        """Take back a region whose call raised; return whether to send the call again, in another.

        That is so when the server knew no such region, as one that was started again. Else it may still be at work in
        it, so that nobody gets it again, and it is removed once the server has let go of it.
        """
        left_s = deadline - time.monotonic()
        if isinstance(error, WIRE_ERRORS) and left_s > 0 and not self._is_known(region, left_s):
            with self._lock:
                idle, self._idle = self._idle, []
            for each in (region, *idle):
                self._remove(each)
            return True
        self._retire(region)
        return False

    def close(self) -> None:
        """Let the server forget all regions, and remove them."""
        with self._lock:
            regions, self._all, self._idle, self._retired = self._all, set(), [], []
        # A moment after its answer the server may still hold one; what it holds longer is the service's to sweep.
        deadline, held = time.monotonic() + CLOSE_PATIENCE_S, regions
        while held := {region for region in held if not self._let_go(region, CLOSE_TIMEOUT_S)}:
            if time.monotonic() > deadline:
                break
            time.sleep(_PAUSE_S)
        for region in regions:
            if region in held:
                # Freed under the server it would be undefined; it goes with this process.
                region.card = None
            region.remove()
        self._wire.close()

    def _retire(self, region: LocalRegion) -> None:
        with self._lock:
            self._retired.append(region)

    def _remove(self, region: LocalRegion) -> None:
        with self._lock:
            self._all -= {region}
        region.remove()

    def _register(self, num_bytes: int, card_bytes: int, timeout_s: float) -> LocalRegion:
        region = LocalRegion(num_bytes, card_bytes, self.card or 0)
        with self._lock:
            self._all.add(region)
        try:
            self._wire.register_system_shared_memory(region.name, region.key, num_bytes, client_timeout=timeout_s)
            if (card := region.card) is not None:
                self._wire.register_cuda_shared_memory(
                    card.name, card.handle(), card.card, card_bytes, client_timeout=timeout_s
                )
        except WIRE_ERRORS as error:
            self._let_go(region, timeout_s)
            self._remove(region)
            if not self._is_live(timeout_s):
                raise
            raise ConfigError(
                f"The server at {self._url} takes no local memory ({scrub(str(error))}). Start it on this machine, as"
                f" this user, with `auralsam2 serve --local-memory`{', on the same card' if card_bytes else ''}, or"
                " leave local_memory out."
            ) from error
        return region

    def _let_go(self, region: LocalRegion, timeout_s: float) -> bool:
        """Let the server forget a region; False while it is at work in it."""
        with contextlib.suppress(*WIRE_ERRORS):
            if region.card is not None:
                self._wire.unregister_cuda_shared_memory(region.card.name, client_timeout=timeout_s)
            self._wire.unregister_system_shared_memory(region.name, client_timeout=timeout_s)
            return True
        return not self._is_known(region, timeout_s)

    def _is_known(self, region: LocalRegion, timeout_s: float) -> bool:
        """Ask whether the server knows a region; one that does not tell, since it keeps that closed, knows none."""
        try:
            known = {*self._wire.get_system_shared_memory_status(client_timeout=timeout_s).regions}
            if region.card is not None:
                known |= {*self._wire.get_cuda_shared_memory_status(client_timeout=timeout_s).regions}
            return not known.isdisjoint((region.name, region.name + SUFFIX))
        except WIRE_ERRORS:
            return not self._is_live(timeout_s)

    def _is_live(self, timeout_s: float) -> bool:
        with contextlib.suppress(*WIRE_ERRORS):
            return bool(self._wire.is_server_live(client_timeout=timeout_s))
        return False


def encode_placed(call: Call, placed: Placed, region: LocalRegion) -> tuple[list[Any], list[Any]]:
    """Write a call's large tensors into a region; return inputs and wanted outputs that name their places."""
    inputs = []
    for name, (offset, value) in placed.inputs.items():
        np.frombuffer(region.memory, value.dtype, value.size, offset).reshape(value.shape)[...] = value
        item = blocking.InferInput(name, list(value.shape), TYPES[value.dtype.name])
        item.set_shared_memory(region.name, value.nbytes, offset)
        inputs.append(item)
    if placed.frames is not None and region.card is not None:
        region.card.write(placed.frames)
        item = blocking.InferInput(FRAMES, list(placed.frames.shape), TYPES[placed.frames.dtype.name])
        item.set_shared_memory(region.card.name, placed.frames.nbytes, 0)
        inputs.append(item)
    elsewhere = {item.name() for item in inputs}
    rest = Call({name: value for name, value in call.tensors.items() if name not in elsewhere}, call.outputs)
    others, wanted = encode_request(blocking, rest)
    for output in wanted:
        if output.name() in placed.outputs:
            offset, spec = placed.outputs[output.name()]
            output.set_shared_memory(region.name, _num_bytes(spec), offset)
    return [*inputs, *others], wanted


def read_placed(result: Any, call: Call, placed: Placed, region: LocalRegion) -> Arrays:
    """Read an answer, copying what lies in the region. Raises: ServerFault when an output is missing."""
    arrays = read_answer(result, [name for name in call.outputs if name not in placed.outputs])
    for name, (offset, spec) in placed.outputs.items():
        if result.get_output(name) is None:
            raise ServerFault(f"The server answered without {name}, which was asked for. Restart it; see its log.")
        dtype = np.dtype(DTYPES[spec.dtype])
        arrays[name] = np.frombuffer(region.memory, dtype, math.prod(spec.shape), offset).reshape(spec.shape).copy()
    return arrays


def sweep_server(url: str) -> int:
    """Let the server at host:port forget the regions of clients that died, and remove them; return how many it forgot.

    Raises: ServerUnavailable, ServerTimeout; ServerUnavailable too where it keeps its shared memory closed.
    """
    sweep_all()
    forgotten = 0
    with blocking.InferenceServerClient(url, channel_args=CHANNEL_OPTIONS) as wire:
        try:
            known = wire.get_system_shared_memory_status(client_timeout=CLOSE_TIMEOUT_S).regions
        except WIRE_ERRORS as error:
            raise translate(error, url=url, timeout_s=CLOSE_TIMEOUT_S) from error
        for name in [name for name, status in known.items() if is_ours(status.key) and sweep_dead(status.key)]:
            # While it is at work in one, it keeps it; the next sweep finds it again.
            with contextlib.suppress(InferenceServerException):
                wire.unregister_system_shared_memory(name, client_timeout=CLOSE_TIMEOUT_S)
                forgotten += 1
        with contextlib.suppress(InferenceServerException):
            on_cards = wire.get_cuda_shared_memory_status(client_timeout=CLOSE_TIMEOUT_S).regions
            for name in [name for name in on_cards if name.endswith(SUFFIX)]:
                key = name.removesuffix(SUFFIX)
                if is_ours(key) and sweep_dead(key):
                    wire.unregister_cuda_shared_memory(name, client_timeout=CLOSE_TIMEOUT_S)
                    forgotten += 1
    return forgotten


def _num_bytes(spec: TensorSpec) -> int:
    return math.prod(spec.shape) * np.dtype(DTYPES[spec.dtype]).itemsize


def _aligned(place: int) -> int:
    return -(-place // _ALIGNMENT) * _ALIGNMENT


def _whole_pages(num_bytes: int) -> int:
    return max(1, -(-num_bytes // mmap.PAGESIZE)) * mmap.PAGESIZE
