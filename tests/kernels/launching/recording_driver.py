"""A driver that launches nothing and writes down what it was asked to: Triton's own way from a call to a card, no card.

Run as a program, in a process of its own, because there kernels are compiled and not interpreted. It calls one plan
three times, the third time with an input that is not aligned, and prints for each call its launches: grid, stream,
compiled function, and the arguments in order, tensors by name.
"""

import json
from typing import Any

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget

from kernels.launching.prepared import Prepared
from kernels.memory_attention.plan import MemoryAttentionSizes, default_blocks, plan

CAPABILITY = 90
SIZES = MemoryAttentionSizes(64, 132, 4, 128, 32)

launches: list[list[Any]] = []
names: dict[int, str] = {}


def told(argument: Any) -> Any:
    return names[argument.data_ptr()] if isinstance(argument, Tensor) else argument


class Utils:
    def __init__(self) -> None:
        self.loaded: list[bytes] = []

    def get_device_properties(self, device: int) -> dict[str, int]:
        return {"max_shared_mem": 227 * 1024}

    def load_binary(self, name: str, code: bytes, shared: int, device: int) -> tuple[int, int, int, int, int]:
        """Number each code, equal ones alike: module, function, registers, spills, threads."""
        if code not in self.loaded:
            self.loaded.append(code)
        return 1, self.loaded.index(code), 32, 0, 1024

    def unload_module(self, module: int) -> None:
        pass


class Launcher:
    def __init__(self, source: Any, metadata: Any) -> None:
        self.name = metadata.name

    def __call__(self, x: int, y: int, z: int, stream: int, function: int, packed: Any, *rest: Any) -> None:
        _, _, _, *arguments = rest
        launches.append([self.name, [x, y, z], stream, function, str(packed), [told(each) for each in arguments]])


class RecordingDriver:
    utils = Utils()
    launcher_cls = Launcher

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return len(calls)

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", CAPABILITY, 32)


calls: list[list[list[Any]]] = []


def named(name: str, tensor: Tensor) -> Tensor:
    names[tensor.data_ptr()] = name
    return tensor


def main() -> None:
    triton.runtime.driver.set_active(RecordingDriver())
    made = plan(SIZES, torch.float16, default_blocks(torch.float16, CAPABILITY))
    prepared = Prepared(made)
    for shift in (0, 0, 1):
        inputs = []
        for name in made.inputs:
            buffer = made.buffers[name]
            count = torch.Size(buffer.shape).numel()
            whole = torch.zeros(count + shift, dtype=buffer.dtype)
            inputs.append(named(name, whole[shift:].view(buffer.shape)))
        rest = iter([name for name in made.buffers if name not in made.inputs])
        held: list[Tensor] = []

        def empty(shape: tuple[int, ...], rest: Any = rest, held: list[Tensor] = held, **options: Any) -> Tensor:
            held.append(named(next(rest), torch.empty(shape, **options)))
            return held[-1]

        prepared(inputs, empty)
        calls.append(launches.copy())
        launches.clear()
    print(json.dumps(calls))


if __name__ == "__main__":
    main()
