"""Two small kernels, their plans and their catalogue, and a process in which kernels compile.

Kernels are Python functions in the tests' own process (TRITON_INTERPRET=1), so what compiles runs in another process,
which imports this module.
"""

import os
import subprocess
import sys
from pathlib import Path

import torch
import triton
import triton.language as tl

from kernels.launching.launch import Buffer, Launch, Plan, cdiv


@triton.jit
def accumulate(a, b, total):
    return tl.dot(a, b, total)


@triton.jit
def multiply(a_ptr, b_ptr, num_rows, c_ptr, N: tl.constexpr, K: tl.constexpr, BLOCK: tl.constexpr, STEP: tl.constexpr):
    """C [num_rows, N] = A [num_rows, K] B [K, N]."""
    rows = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)  # [BLOCK]
    columns = tl.arange(0, N)  # [N]
    inside = rows[:, None] < num_rows
    total = tl.zeros((BLOCK, N), tl.float32)  # [BLOCK, N]
    for start in range(0, K, STEP):
        inner = start + tl.arange(0, STEP)  # [STEP]
        a = tl.load(a_ptr + rows[:, None] * K + inner[None, :], mask=inside, other=0.0)  # [BLOCK, STEP]
        b = tl.load(b_ptr + inner[:, None] * N + columns[None, :])  # [STEP, N]
        total = accumulate(a, b, total)
    tl.store(c_ptr + rows[:, None] * N + columns[None, :], total.to(c_ptr.dtype.element_ty), mask=inside)


@triton.jit
def double(x_ptr, num_rows, y_ptr, N: tl.constexpr, BLOCK: tl.constexpr):
    """Y = 2 X, [num_rows, N]."""
    rows = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)  # [BLOCK]
    places = rows[:, None] * N + tl.arange(0, N)[None, :]  # [BLOCK, N]
    inside = rows[:, None] < num_rows
    tl.store(y_ptr + places, 2 * tl.load(x_ptr + places, mask=inside), mask=inside)


@triton.jit
def reversed_parameters(y_ptr, num_rows, x_ptr, N: tl.constexpr, BLOCK: tl.constexpr):
    """An output before the inputs."""
    places = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)  # [BLOCK]
    tl.store(y_ptr + places, tl.load(x_ptr + places))


def toy_plan(dtype: torch.dtype, num_rows: int = 77, block: int = 64, num_warps: int = 4) -> Plan:
    """C = 2 (A B), in two launches: one with a matrix product, one without."""
    buffers = {
        "a": Buffer((num_rows, 128), dtype),
        "b": Buffer((128, 64), dtype),
        "product": Buffer((num_rows, 64), dtype),
        "c": Buffer((num_rows, 64), dtype),
    }
    products = Launch(
        kernel=multiply,
        inputs={"a_ptr": "a", "b_ptr": "b"},
        integers={"num_rows": num_rows},
        outputs={"c_ptr": "product"},
        constants={"N": 64, "K": 128, "BLOCK": block, "STEP": 32},
        grid=(cdiv(num_rows, block), 1, 1),
        num_warps=num_warps,
        num_stages=2,
    )
    twice = Launch(
        kernel=double,
        inputs={"x_ptr": "product"},
        integers={"num_rows": num_rows},
        outputs={"y_ptr": "c"},
        constants={"N": 64, "BLOCK": 32},
        grid=(cdiv(num_rows, 32), 1, 1),
        num_warps=4,
        num_stages=1,
    )
    return Plan(buffers, inputs=("a", "b"), outputs=("c",), launches=(products, twice))


def spilling_plan() -> Plan:
    """One warp for 256 x 64 sums: far more than 255 registers a thread."""
    return toy_plan(torch.float16, block=256, num_warps=1)


def shipped_plans(capability: int) -> list[tuple[str, torch.dtype, Plan]]:
    """A catalogue, so that the report can be made of this module. `same` launches what `toy` launches."""
    return [
        ("toy", torch.float16, toy_plan(torch.float16)),
        ("same", torch.float16, toy_plan(torch.float16, num_rows=1000)),
        ("toy", torch.float32, toy_plan(torch.float32)),
    ]


def run_apart(repository: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a process whose kernels compile."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"} | variables
    environment["PYTHONPATH"] = os.pathsep.join([str(repository), str(Path(__file__).parent)])
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False)
