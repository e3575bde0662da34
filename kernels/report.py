"""The compiler's report on every kernel that the package ships, and a kept one that is checked.

`python -m kernels.report` compiles every plan of the catalogue and prints a Markdown table, one row a launch:
registers, spills, local memory, shared memory, tensor-core instructions, resident warps.

To compile all takes minutes, so what it says is kept in `compiled.json`, each row with a hash of all that the compiler
was given. `--check` compares those hashes with the kernels and tables as they are, compiles one launch of every kernel
again, on the architectures in turn, and names the rows that differ.
"""

import argparse
import hashlib
import importlib
import json
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from kernels.compilation import check_compilable, compile_launch
from kernels.launching.errors import KernelError
from kernels.launching.launch import ELEMENT_NAMES, Launch, Plan
from kernels.launching.occupancy import ARCHITECTURES, occupancy, resident_warps

CATALOGUE = "kernels.catalogue"
"""The module whose `shipped_plans(capability)` lists (name, dtype, plan)."""
KEPT = Path(__file__).with_name("compiled.json")
WORKERS = 2
FEW = 4
"""Tasks that take less time than the start of a process, which imports PyTorch and Triton."""
DTYPES = tuple(ELEMENT_NAMES.values())


@dataclass(frozen=True)
class Task:
    """One launch of one plan of a catalogue. Kernels cannot travel between processes; their place in it can."""

    catalogue: str
    capability: int
    plan: int
    launch: int


@dataclass(frozen=True)
class Entry:
    """One row of the report before it is compiled."""

    capability: int
    plan: str
    dtype: str
    kernel: str
    given: str
    """A hash of all that the compiler is given, for launches that are compiled alike the same."""
    task: Task

    @property
    def named(self) -> str:
        return f"sm_{self.capability}, {self.plan}, {self.dtype}, {self.kernel}"


def entries(
    capabilities: Sequence[int] = tuple(ARCHITECTURES),
    dtypes: Sequence[str] = DTYPES,
    catalogue: str = CATALOGUE,
    matching: str = "",
) -> list[Entry]:
    """List what a catalogue launches, by capability, then in the catalogue's order.

    Args:
        dtypes: the compiler's names for them, such as fp16.
        matching: only plans whose name contains it.
    Raises: KernelError for a launch that cannot be compiled.
    """
    found: list[Entry] = []
    for capability in capabilities:
        for place, (name, dtype, plan) in enumerate(_shipped(catalogue, capability)):
            if ELEMENT_NAMES[dtype] not in dtypes or matching not in name:
                continue
            for number, launch in enumerate(plan.launches):
                check_compilable(launch)
                task = Task(catalogue, capability, place, number)
                given = _given(plan, launch, capability)
                found.append(Entry(capability, name, ELEMENT_NAMES[dtype], launch.name, given, task))
    return found


def _shipped(catalogue: str, capability: int) -> list[tuple[str, Any, Plan]]:
    return list(importlib.import_module(catalogue).shipped_plans(capability))


def _given(plan: Plan, launch: Launch, capability: int) -> str:
    # The key of a kernel is Triton's own: its source, and that of all it calls.
    parts = (launch.kernel.cache_key, plan.signature(launch), dict(launch.constants), launch.num_warps)
    return hashlib.sha256(repr((*parts, launch.num_stages, capability)).encode()).hexdigest()[:16]


def compile_entries(chosen: Sequence[Entry]) -> list[dict[str, Any]]:
    """Compile, in two processes where there is much to do; what two entries launch alike is compiled once.

    Returns: a dictionary an entry: `plan`, `dtype`, `given`, what `Compiled` says but for the code itself,
        `resident_warps` and `occupancy`.
    """
    tasks = {entry.given: entry.task for entry in reversed(chosen)}
    if len(tasks) <= FEW:
        compiled = {given: _compile_task(task) for given, task in tasks.items()}
    else:
        with ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as pool:
            compiled = dict(zip(tasks, pool.map(_compile_task, tasks.values()), strict=True))
    return [
        {"plan": entry.plan, "dtype": entry.dtype, "given": entry.given} | compiled[entry.given] for entry in chosen
    ]


def _compile_task(task: Task) -> dict[str, Any]:
    _, _, plan = _shipped(task.catalogue, task.capability)[task.plan]
    compiled = compile_launch(plan, plan.launches[task.launch], task.capability)
    row = asdict(compiled) | {"resident_warps": resident_warps(compiled), "occupancy": occupancy(compiled)}
    del row["ptx"], row["cubin"]
    return row


def sample(of: Sequence[Entry], dtype: str = "fp16") -> list[Entry]:
    """Choose one entry of every kernel in one type, on the architectures in turn; float16 compiles fastest."""
    of = [entry for entry in of if entry.dtype == dtype]
    turns = sorted({entry.capability for entry in of})
    chosen: list[Entry] = []
    for number, kernel in enumerate(dict.fromkeys(entry.kernel for entry in of)):
        launches = [entry for entry in of if entry.kernel == kernel]
        turn = turns[number % len(turns)]
        chosen.append(next((entry for entry in launches if entry.capability == turn), launches[0]))
    return chosen


def keep(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Write the report, a row a line. How long the compiler took is left out: it differs each time."""
    lines = [json.dumps({name: value for name, value in row.items() if name != "seconds"}) for row in rows]
    head = f'{{"triton": {json.dumps(_triton_version())}, "rows": [\n'
    path.write_text(head + ",\n".join(lines) + "\n]}\n")


def check(path: Path, catalogue: str = CATALOGUE) -> list[str]:
    """List, in words, where a kept report differs from the kernels as they are; nothing when it is theirs.

    Raises: KernelError when the file is not a report.
    """
    try:
        record = json.loads(path.read_text())
        version, rows = record["triton"], record["rows"]
        kept = {(row["capability"], row["plan"], row["dtype"], row["name"]): row for row in rows}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise KernelError(f"{path} is not a report that `make kernels-report` wrote: {error!r}.") from error
    present = entries(catalogue=catalogue)
    if version != _triton_version():
        return [f"it was compiled by Triton {version}; here is {_triton_version()}"]
    given = {(entry.capability, entry.plan, entry.dtype, entry.kernel): entry for entry in present}
    found = [f"{entry.named} is not in it" for key, entry in given.items() if key not in kept]
    found += [f"sm_{key[0]}, {', '.join(key[1:])} is launched no longer" for key in kept if key not in given]
    found += [
        f"{entry.named} was compiled from something else"
        for key, entry in given.items()
        if key in kept and kept[key]["given"] != entry.given
    ]
    if found:
        return found
    for entry, row in zip(chosen := sample(present), compile_entries(chosen), strict=True):
        old = kept[entry.capability, entry.plan, entry.dtype, entry.kernel]
        changed = [name for name in old if old[name] != row[name]]
        found += [f"{entry.named}: {name} is {row[name]}, the report says {old[name]}" for name in changed]
    return found


def _triton_version() -> str:
    import triton

    return str(triton.__version__)


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
}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Write the report as Markdown. `local memory` and `tensor cores` count instructions of the machine code."""
    lines = [list(COLUMNS), ["---"] * len(COLUMNS)]
    for row in rows:
        spilled = row["spill_stores"] + row["spill_loads"]
        lines.append([cell.format(**row, spilled=spilled) for cell in COLUMNS.values()])
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m kernels.report", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--capability",
        type=int,
        nargs="+",
        choices=ARCHITECTURES,
        default=list(ARCHITECTURES),
        help="cards, as 90 for 9.0; default: all of them",
    )
    parser.add_argument(
        "--dtype", nargs="+", choices=DTYPES, default=list(DTYPES), help="types of the operands; default: all of them"
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write the rows of the table there too; default: nowhere"
    )
    parser.add_argument(
        "--catalogue",
        default=CATALOGUE,
        metavar="MODULE",
        help="a module with shipped_plans(capability); default: %(default)s",
    )
    parser.add_argument(
        "--matching", default="", metavar="TEXT", help="only plans whose name contains it; default: all"
    )
    parser.add_argument(
        "--check",
        type=Path,
        metavar="FILE",
        help="compare a kept report with the kernels as they are; default: compile and print",
    )
    options = parser.parse_args(arguments)
    if options.check:
        differences = check(options.check, options.catalogue)
        for difference in differences:
            print(f"{options.check.name}: {difference}", file=sys.stderr)
        return 1 if differences else 0
    rows = compile_entries(entries(options.capability, options.dtype, options.catalogue, options.matching))
    if options.json:
        keep(rows, options.json)
    print(table(rows))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
