"""Compiles the launches of a plan for a named GPU architecture without a GPU, and reads the compiler's own report.

The numbers come from two places. `ptxas -v` says registers, spills and stack; it runs a second time, with the flags
that the Triton compiler gave it, for the compiler throws its log away. `nvdisasm` lists the machine code, in which
tensor-core and local-memory instructions are counted. Both tools come with the `triton` package. A driver that compiles
the PTX itself, as under TensorRT, may allocate registers otherwise than this `ptxas`.

Arguments are compiled as in a launch on tensors of the framework: pointers aligned to 16 bytes, integers of any value.
"""

import ast
import inspect
import re
import subprocess
import tempfile
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kernels.launching.errors import KernelError
from kernels.launching.launch import Launch, Plan
from kernels.launching.occupancy import architecture

POINTER_ALIGNMENT_BYTES = 16

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
    check_compilable(launch)
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


def check_compilable(launch: Launch) -> None:
    """Check that a launch can be compiled. Raises: KernelError as `compile_launch` does, on any architecture."""
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
    """Disassemble a cubin into machine code, one instruction a line."""
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
    """Find whether the source of a kernel, or of a kernel function that it calls, multiplies matrices with `tl.dot`."""
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
