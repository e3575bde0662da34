"""Compiles the launches of a plan for a named GPU architecture without a GPU, and reads the compiler's own report.

`python -m kernels.compilation` does so for every plan that the package ships and prints a Markdown table, one row a
launch: registers, spills, local memory, shared memory, tensor-core instructions, resident warps.

The numbers come from two places. `ptxas -v` says registers, spills and stack; it runs a second time, with the flags
that the Triton compiler gave it, for the compiler throws its log away. `nvdisasm` lists the machine code, in which
tensor-core and local-memory instructions are counted. Both tools come with the `triton` package. A driver that compiles
the PTX itself, as under TensorRT, may allocate registers otherwise than this `ptxas`.

Arguments are compiled as in a launch on tensors of the framework: pointers aligned to 16 bytes, integers of any value.
"""

import argparse
import ast
import importlib
import inspect
import json
import re
import subprocess
import tempfile
import textwrap
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from kernels.errors import KernelError
from kernels.launch import ELEMENT_NAMES, Launch, Plan
from kernels.occupancy import ARCHITECTURES, architecture, occupancy, resident_warps

CATALOGUE = "kernels.catalogue"
"""The module whose `shipped_plans(capability)` lists (name, dtype, plan)."""
POINTER_ALIGNMENT_BYTES = 16
WORKERS = 2

TENSOR_CORE = re.compile(r"(UTC[A-Z]*|[BDHIOQ]G?)MMA")
"""Whole mnemonics: HMMA, IMMA, ... on sm_80 to 89 and 120; HGMMA, IGMMA, QGMMA on sm_90; UTCHMMA, ... on sm_100. The
modifier of `HFMA2.MMA`, a plain multiply-add, is not one of them."""
LOCAL_MEMORY = ("LDL", "STL")
INSTRUCTION = re.compile(r"/\*[0-9a-f]{4,}\*/\s+(?:\{\s*)?(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_]*)")


@dataclass(frozen=True)
class Compiled:
    """One launch, compiled for one compute capability."""

    name: str
    capability: int
    entry: str
    ptx: str = field(repr=False)
    cubin: bytes = field(repr=False)
    num_warps: int
    shared_bytes: int
    tensor_memory_columns: int
    scratch_bytes: int
    """Device memory that the kernel wants beside its arguments: 0, or it needs Triton's own launcher."""
    registers: int
    spill_stores: int
    spill_loads: int
    stack_bytes: int
    tensor_core_instructions: int
    local_memory_instructions: int
    uses_dot: bool
    """Whether the kernel's source multiplies matrices, itself or through the functions it calls."""
    seconds: float
    """Wall time of the compilation; short when the compiler's cache knew the kernel."""


def compile_launch(plan: Plan, launch: Launch, capability: int, ptx_version: int | None = None) -> Compiled:
    """Compile `launch` for `capability`, without a GPU.

    Args:
        capability: 10 x major + minor of the GPU's compute capability; a key of `occupancy.ARCHITECTURES`.
        ptx_version: 10 x major + minor of the PTX language to emit; by default the newest that the assembler knows.
            Whoever loads the PTX, not the cubin, needs a driver that knows it too.
    Raises:
        KernelError: in a process with TRITON_INTERPRET=1; for an unknown capability; for a kernel whose parameters are
            not in the order inputs, integers, outputs, constants; when `ptxas` refuses what the compiler made.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    architecture(capability)
    _check_compilable(launch)
    signature = plan.signature(launch)
    pointers = [place for place, kind in enumerate(signature.values()) if kind.startswith("*")]
    source = ASTSource(
        launch.kernel,
        signature,
        dict(launch.constants),
        {(place,): [["tt.divisibility", POINTER_ALIGNMENT_BYTES]] for place in pointers},
    )
    options = {"num_warps": launch.num_warps, "num_stages": launch.num_stages, "enable_fp_fusion": True}
    start = time.perf_counter()
    with triton.knobs.compilation.scope():
        # Line tables would carry this machine's paths into every engine that embeds the PTX.
        triton.knobs.compilation.disable_line_info = True
        kernel = triton.compile(
            source, target=GPUTarget("cuda", capability, 32), options=options | {"ptx_version": ptx_version}
        )
    seconds = time.perf_counter() - start
    ptx, cubin = kernel.asm["ptx"], kernel.asm["cubin"]
    mnemonics = list(_mnemonics(disassemble(cubin)))
    return Compiled(
        name=launch.name,
        capability=capability,
        entry=kernel.metadata.name,
        ptx=ptx,
        cubin=cubin,
        num_warps=kernel.metadata.num_warps,
        shared_bytes=kernel.metadata.shared,
        tensor_memory_columns=kernel.metadata.tmem_size or 0,
        scratch_bytes=kernel.metadata.global_scratch_size + kernel.metadata.profile_scratch_size,
        tensor_core_instructions=sum(bool(TENSOR_CORE.fullmatch(mnemonic)) for mnemonic in mnemonics),
        local_memory_instructions=sum(mnemonic in LOCAL_MEMORY for mnemonic in mnemonics),
        uses_dot=uses_dot(launch.kernel),
        seconds=seconds,
        **assemble(ptx, capability),
    )


def _check_compilable(launch: Launch) -> None:
    import triton

    if triton.knobs.runtime.interpret:
        raise KernelError(
            f"{launch.name} cannot be compiled in a process with TRITON_INTERPRET=1: its kernels are Python functions. "
            "Start another process without that variable."
        )
    if not isinstance(launch.kernel, triton.JITFunction):
        raise KernelError(f"{launch.name} is {type(launch.kernel).__name__}, not a function under triton.jit.")
    declared = list(launch.kernel.arg_names)
    groups = (launch.inputs, launch.integers, launch.outputs, launch.constants)
    found = [place for parameter in declared for place, group in enumerate(groups) if parameter in group]
    if found != sorted(found) or len(found) != len(declared) or len(found) != sum(map(len, groups)):
        named = " | ".join(", ".join(group) for group in groups)
        raise KernelError(
            f"{launch.name} declares the parameters {', '.join(declared)}; its launch gives {named}. "
            "The order is inputs, integers, outputs, constants."
        )


def assemble(ptx: str, capability: int) -> dict[str, int]:
    """Run `ptxas -v` on PTX: registers, and bytes of stack and of spills.

    Raises: KernelError with the assembler's words when it refuses.
    """
    from triton.backends.nvidia.compiler import get_ptxas, sm_arch_from_capability

    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "kernel.ptx"
        source.write_text(ptx)
        # --regAllocOptLevel=2: what the Triton compiler asks for.
        command = [get_ptxas(capability).path, "-v", "--regAllocOptLevel=2"]
        command += [f"--gpu-name={sm_arch_from_capability(capability)}", str(source), "-o", str(Path(folder) / "cubin")]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise KernelError(f"ptxas refuses the PTX for sm_{capability}: {result.stderr.strip()}")
    report = result.stderr
    return {
        "registers": max(_numbers(r"Used (\d+) registers", report)),
        "stack_bytes": max(_numbers(r"(\d+) bytes stack frame", report)),
        "spill_stores": sum(_numbers(r"(\d+) bytes spill stores", report)),
        "spill_loads": sum(_numbers(r"(\d+) bytes spill loads", report)),
    }


def _numbers(pattern: str, report: str) -> list[int]:
    found = [int(number) for number in re.findall(pattern, report)]
    if not found:
        raise KernelError(f"ptxas -v says nothing that matches {pattern!r}; it says: {report.strip()}")
    return found


def disassemble(cubin: bytes) -> str:
    """The machine code of a cubin, one instruction a line."""
    import triton

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.cubin"
        file.write_bytes(cubin)
        command = [triton.knobs.nvidia.nvdisasm.path, "-c", str(file)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _mnemonics(machine_code: str) -> Iterator[str]:
    for line in machine_code.splitlines():
        if found := INSTRUCTION.search(line):
            yield found[1]


def uses_dot(kernel: Any) -> bool:
    """Whether the source of a kernel, or of a kernel function that it calls, multiplies matrices with `tl.dot`."""
    return _uses_dot(kernel, set())


def _uses_dot(kernel: Any, seen: set[Any]) -> bool:
    import triton.language as tl

    dot_products = (tl.dot, tl.dot_scaled)
    function = kernel.fn
    if function in seen:
        return False
    seen.add(function)
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(function)))):
        if not isinstance(node, ast.Call):
            continue
        called = _resolve(node.func, function.__globals__)
        if any(called is product for product in dot_products):
            return True
        helper = getattr(called, "fn", None)
        if inspect.isfunction(helper) and not helper.__module__.startswith("triton.") and _uses_dot(called, seen):
            return True
    return False


def _resolve(node: ast.expr, names: dict[str, Any]) -> Any:
    """The object that a dotted name of a kernel's source stands for, or None for a local one."""
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute):
        return getattr(_resolve(node.value, names), node.attr, None)
    return None


@dataclass(frozen=True)
class Task:
    """One launch of one plan of a catalogue. Kernels cannot travel between processes; their place in it can."""

    catalogue: str
    capability: int
    plan: int
    launch: int


def _shipped(catalogue: str, capability: int) -> list[tuple[str, Any, Plan]]:
    return list(importlib.import_module(catalogue).shipped_plans(capability))


def _compile_task(task: Task) -> dict[str, Any]:
    _, _, plan = _shipped(task.catalogue, task.capability)[task.plan]
    compiled = compile_launch(plan, plan.launches[task.launch], task.capability)
    row = asdict(compiled) | {"resident_warps": resident_warps(compiled), "occupancy": occupancy(compiled)}
    del row["ptx"], row["cubin"]
    return row


def compile_catalogue(
    capabilities: Sequence[int], dtypes: Sequence[str], catalogue: str = CATALOGUE, matching: str = ""
) -> list[dict[str, Any]]:
    """Compile every launch of a catalogue, in two processes; a kernel that two plans launch alike is compiled once.

    Args:
        dtypes: the compiler's names for them, such as fp16.
        matching: only plans whose name contains it.
    Returns: a dictionary a launch: `plan`, `dtype`, what `Compiled` says but for the code itself, `resident_warps` and
        `occupancy`; by capability, then in the catalogue's order.
    """
    tasks: dict[object, Task] = {}
    rows: list[tuple[object, dict[str, Any]]] = []
    for capability in capabilities:
        for place, (name, dtype, plan) in enumerate(_shipped(catalogue, capability)):
            if ELEMENT_NAMES[dtype] not in dtypes or matching not in name:
                continue
            for number, launch in enumerate(plan.launches):
                _check_compilable(launch)
                kernel = (launch.kernel.__module__, launch.name, *plan.signature(launch).items())
                key = (capability, kernel, *launch.constants.items(), launch.num_warps, launch.num_stages)
                tasks.setdefault(key, Task(catalogue, capability, place, number))
                rows.append((key, {"plan": name, "dtype": ELEMENT_NAMES[dtype]}))
    with ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as pool:
        compiled = dict(zip(tasks, pool.map(_compile_task, tasks.values()), strict=True))
    return [row | compiled[key] for key, row in rows]


COLUMNS = {
    "GPU": "sm_{capability}",
    "plan": "{plan}",
    "type": "{dtype}",
    "kernel": "{name}",
    "warps": "{num_warps}",
    "registers": "{registers}",
    "spilled bytes": "{spilled}",
    "local memory": "{local_memory_instructions}",
    "shared bytes": "{shared_bytes}",
    "tensor cores": "{tensor_core_instructions}",
    "resident warps": "{resident_warps}",
    "occupancy": "{occupancy:.0%}",
    "compiled in": "{seconds:.2f} s",
}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The report as Markdown. `local memory` and `tensor cores` count instructions of the machine code."""
    lines = [list(COLUMNS), ["---"] * len(COLUMNS)]
    for row in rows:
        spilled = row["spill_stores"] + row["spill_loads"]
        lines.append([cell.format(**row, spilled=spilled) for cell in COLUMNS.values()])
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m kernels.compilation", description=__doc__.partition("\n")[0])
    parser.add_argument("--capability", type=int, nargs="+", choices=ARCHITECTURES, default=list(ARCHITECTURES))
    parser.add_argument("--dtype", nargs="+", choices=ELEMENT_NAMES.values(), default=list(ELEMENT_NAMES.values()))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows of the table there too")
    parser.add_argument(
        "--catalogue", default=CATALOGUE, metavar="MODULE", help="a module with shipped_plans(capability)"
    )
    parser.add_argument("--matching", default="", metavar="TEXT", help="only plans whose name contains it")
    options = parser.parse_args(arguments)
    rows = compile_catalogue(options.capability, options.dtype, options.catalogue, options.matching)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
