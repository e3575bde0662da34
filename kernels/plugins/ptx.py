"""The text of one compiled kernel, made into what TensorRT can load and launch.

TensorRT passes a kernel its inputs, its integers and its outputs, in this order, and nothing else. PTX of the Triton
compiler takes two pointers more, is named after its function, and from sm_90 on is written for one card alone.

Source  Three projects that put such PTX into TensorRT. NVIDIA's sample `quickly_deployable_plugins` hands it over as it
        is. Stability AI's `stable-audio-3` reports that TensorRT 10.15 refuses the targets `sm_90a` and `sm_120a` and
        takes `sm_90` and `sm_120`. PyTorch's Torch-TensorRT reports that TensorRT tells kernels apart by the name of
        their entry: of two that are called alike it takes one for both.
"""

import re
from collections.abc import Sequence

from kernels.launching.errors import KernelError
from kernels.launching.occupancy import WARP_SIZE

ENTRY = re.compile(r"(?P<head>.*\.visible \.entry )(?P<name>\w+)\((?P<parameters>[^)]*)(?P<tail>\).*)", re.DOTALL)
THREADS = re.compile(r"^\.reqntid (\d+)", re.MULTILINE)
CLUSTER = re.compile(r"^\.(explicitcluster|reqnctapercluster|maxclusterrank)", re.MULTILINE)
OWN_TARGET = re.compile(r"^(\.target sm_\d+)[a-z]", re.MULTILINE)


def _entry(ptx: str) -> tuple[str, str, list[str], str]:
    """The text before the name of the only entry, its name, the declarations, and the text after them."""
    found = ENTRY.fullmatch(ptx)
    if not found or ptx.count(".entry ") != 1:
        raise KernelError("PTX of a kernel has one .visible .entry; this has none or several.")
    parameters = [line.strip() for line in found["parameters"].split(",")]
    return found["head"], found["name"], [line for line in parameters if line], found["tail"]


def parameters(ptx: str) -> list[str]:
    """List the parameter declarations of a kernel's PTX, as written, such as `.param .u32 mix_param_2`."""
    return _entry(ptx)[2]


def _with_parameters(ptx: str, declarations: Sequence[str]) -> str:
    head, name, _, tail = _entry(ptx)
    return f"{head}{name}(" + ",".join(f"\n\t{declaration}" for declaration in declarations) + "\n" + tail


def strip_scratch(ptx: str, num_parameters: int) -> str:
    """Rewrite PTX to the entry's first `num_parameters` parameters only.

    The Triton compiler appends two pointers to every entry, to scratch and to profiling memory, that its own launcher
    passes. They are removed after a look at the code, which must name none of them.

    Raises: KernelError when the code uses what would be removed, or when there are fewer parameters than that.
    """
    _, name, declared, tail = _entry(ptx)
    if len(declared) < num_parameters:
        raise KernelError(f"{name} has {len(declared)} parameters in PTX, its launch {num_parameters}.")
    for declaration in declared[num_parameters:]:
        parameter = declaration.split()[-1]
        if ".u64" not in declaration or re.search(rf"\b{re.escape(parameter)}\b", tail):
            raise KernelError(f"{name} uses its parameter {parameter}, which TensorRT does not pass.")
    return _with_parameters(ptx, declared[:num_parameters])


def add_unused_pointers(ptx: str, place: int, count: int) -> str:
    """Rewrite PTX so that its entry takes `count` unused pointers before its parameter number `place`."""
    _, name, declared, _ = _entry(ptx)
    unused = [f".param .u64 .ptr .global .align 1 {name}_unused_{number}" for number in range(count)]
    return _with_parameters(ptx, [*declared[:place], *unused, *declared[place:]])


def rename_entry(ptx: str, name: str) -> str:
    """Rewrite PTX so that its entry is called `name`. Its parameters keep their names."""
    head, _, declared, tail = _entry(ptx)
    return _with_parameters(f"{head}{name}(" + tail, declared)


def widen_target(ptx: str) -> str:
    """Rewrite PTX for every card of its target's capability and newer: `sm_90` for `sm_90a`.

    The assembler refuses it where the code has instructions of the one card.
    """
    return OWN_TARGET.sub(r"\1", ptx)


def block_threads(ptx: str, num_warps: int) -> int:
    """Read the threads a block, as the PTX demands them.

    Raises: KernelError when they are not those of `num_warps`, or when blocks come in clusters.
    """
    if CLUSTER.search(ptx):
        raise KernelError("the kernel wants its blocks in clusters; TensorRT launches single blocks.")
    demanded = THREADS.findall(ptx)
    if demanded != [str(num_warps * WARP_SIZE)]:
        raise KernelError(f"PTX demands {demanded} threads a block; {num_warps} warps have {num_warps * WARP_SIZE}.")
    return num_warps * WARP_SIZE
