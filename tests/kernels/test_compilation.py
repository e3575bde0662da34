"""The compiler report: on two small kernels of this file first, then on everything that the package ships.

Kernels are Python functions in the tests' own process (TRITON_INTERPRET=1), so what compiles runs in another process,
which imports this file for its kernels, its plans and its catalogue.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

triton = pytest.importorskip("triton", reason="the kernels are compiled by the triton package")

import triton.language as tl  # noqa: E402

from kernels import compilation  # noqa: E402
from kernels.errors import KernelError  # noqa: E402
from kernels.launch import Buffer, Launch, Plan, cdiv  # noqa: E402

CAPABILITIES = (80, 86, 89, 90, 100, 120)


@triton.jit
def _accumulate(a, b, total):
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
        total = _accumulate(a, b, total)
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
    """A catalogue, so that the report can be made of this file. `same` launches what `toy` launches."""
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


def measured(repository: Path, code: str, **variables: str) -> Any:
    """Run statements that print JSON, in a process whose kernels compile."""
    lines = [
        "import json, torch",
        "from kernels.compilation import assemble, compile_launch, disassemble, uses_dot",
        "from kernels.errors import KernelError",
        "import test_compilation as toys",
        "plan = toys.toy_plan(torch.float16)",
        code,
    ]
    result = run_apart(repository, "-W", "error", "-c", "\n".join(lines), **variables)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_interpreted_kernels_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton.knobs.runtime, "interpret", True)
    plan = toy_plan(torch.float16)
    with pytest.raises(KernelError, match="multiply cannot be compiled in a process with TRITON_INTERPRET=1"):
        compilation.compile_launch(plan, plan.launches[0], 90)


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_what_the_report_says(repository_root: Path, capability: int) -> None:
    # cuobjdump reads the same numbers from the code that the Triton compiler itself assembled.
    code = f"""
import re, subprocess, tempfile, triton
answers = []
for launch in plan.launches:
    compiled = compile_launch(plan, launch, {capability})
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.cubin)
        file.flush()
        command = [triton.knobs.nvidia.cuobjdump.path, "--dump-resource-usage", file.name]
        usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    registers, stack = re.search(r"REG:(\\d+) STACK:(\\d+)", usage).groups()
    row = vars(compiled) | {{"own_registers": int(registers), "own_stack": int(stack)}}
    row["wide_loads"] = len(re.findall(r"LDG\\.E\\.128", disassemble(compiled.cubin)))
    del row["cubin"]
    answers.append(row)
print(json.dumps(answers))
"""
    product, twice = measured(repository_root, code)
    for row in (product, twice):
        assert row["capability"] == capability
        assert row["entry"] == row["name"]
        assert row["registers"] == row["own_registers"] > 0
        assert row["stack_bytes"] == row["own_stack"] == 0
        assert (row["spill_stores"], row["spill_loads"], row["local_memory_instructions"]) == (0, 0, 0)
        assert (row["num_warps"], row["scratch_bytes"]) == (4, 0)
        assert f".target sm_{capability}" in row["ptx"]
        # No path of this machine.
        assert ".loc" not in row["ptx"]
        assert str(repository_root) not in row["ptx"]
    assert product["tensor_core_instructions"] > 0
    assert product["uses_dot"]
    assert product["shared_bytes"] >= 2 * 32 * (64 + 64)
    assert (product["tensor_memory_columns"] > 0) == (capability == 100)
    assert twice["tensor_core_instructions"] == 0
    assert not twice["uses_dot"]
    assert twice["shared_bytes"] == 0
    # Pointers are known to be aligned: sixteen bytes a load.
    assert twice["wide_loads"] > 0


def test_spills_are_seen(repository_root: Path) -> None:
    code = """
plan = toys.spilling_plan()
row = vars(compile_launch(plan, plan.launches[0], 80))
del row["cubin"], row["ptx"]
print(json.dumps(row))
"""
    row = measured(repository_root, code)
    assert row["registers"] == 255
    assert row["spill_stores"] > 0
    assert row["spill_loads"] > 0
    assert row["stack_bytes"] > 0
    assert row["local_memory_instructions"] > 0


def test_an_older_ptx_language_can_be_asked_for(repository_root: Path) -> None:
    code = """
compiled = compile_launch(plan, plan.launches[0], 90, ptx_version=80)
print(json.dumps([compiled.ptx, compiled.tensor_core_instructions]))
"""
    ptx, tensor_core_instructions = measured(repository_root, code)
    assert ".version 8.0" in ptx
    assert tensor_core_instructions > 0


def test_refusals(repository_root: Path) -> None:
    code = """
import dataclasses
def refusal(function):
    try:
        function()
    except KernelError as error:
        return str(error)
double = plan.launches[1]
turned = dataclasses.replace(double, kernel=toys.reversed_parameters)
short = dataclasses.replace(double, constants={"N": 64})
long = dataclasses.replace(double, constants={"N": 64, "BLOCK": 32, "STEP": 32})
plain = dataclasses.replace(double, kernel=toys.shipped_plans)
print(json.dumps([
    refusal(lambda: compile_launch(plan, turned, 90)),
    refusal(lambda: compile_launch(plan, short, 90)),
    refusal(lambda: compile_launch(plan, long, 90)),
    refusal(lambda: compile_launch(plan, plain, 90)),
    refusal(lambda: compile_launch(plan, double, 75)),
    refusal(lambda: assemble(".version 8.0\\n.target sm_90\\nnonsense", 90)),
]))
"""
    order, short, long, plain, unknown, broken = measured(repository_root, code)
    assert (
        "declares the parameters y_ptr, num_rows, x_ptr, N, BLOCK; its launch gives x_ptr | num_rows | y_ptr" in order
    )
    assert all("The order is inputs, integers, outputs, constants." in refusal for refusal in (order, short, long))
    assert "not a function under triton.jit" in plain
    assert "compute capability 75 is not known" in unknown
    assert "ptxas refuses the PTX for sm_90" in broken


@pytest.mark.parametrize(
    ("line", "mnemonic", "counts"),
    [
        ("        /*0e90*/                   HMMA.16816.F32 R4, R8, R12, R4 ;", "HMMA", True),
        ("        /*1230*/                   HGMMA.64x64x16.F32 R24, gdesc[UR8] ;", "HGMMA", True),
        ("        /*1230*/              @!UP1 UTCHMMA gdesc[UR8], gdesc[UR10], tmem[UR4] ;", "UTCHMMA", True),
        ("        /*1230*/                   UTCQMMA gdesc[UR8], gdesc[UR10], tmem[UR4] ;", "UTCQMMA", True),
        ("        /*1230*/                   IMMA.16832.S8.S8 R4, R8.ROW, R12.COL, R4 ;", "IMMA", True),
        ("        /*1230*/                   HFMA2.MMA R4, -RZ, RZ, 0, 0 ;", "HFMA2", False),
        ("        /*1230*/                   WARPSYNC.ALL ;", "WARPSYNC", False),
        ("        /*1230*/              @P0  STL.64 [R1+0x8], R2 ;", "STL", False),
    ],
)
def test_mnemonics(line: str, mnemonic: str, counts: bool) -> None:
    assert list(compilation._mnemonics(line)) == [mnemonic]
    assert bool(compilation.TENSOR_CORE.fullmatch(mnemonic)) == counts


def test_dot_products_are_found_through_helpers() -> None:
    assert compilation.uses_dot(_accumulate)
    assert compilation.uses_dot(multiply)
    assert not compilation.uses_dot(double)


def test_the_command_line(repository_root: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    arguments = [
        "--capability",
        "80",
        "90",
        "--dtype",
        "fp16",
        "--json",
        str(report),
        "--catalogue",
        "test_compilation",
    ]
    result = run_apart(repository_root, "-W", "error", "-m", "kernels.compilation", *arguments)
    assert result.returncode == 0, result.stderr
    rows = json.loads(report.read_text())
    assert [(row["capability"], row["plan"], row["dtype"], row["name"]) for row in rows] == [
        (capability, plan, "fp16", kernel)
        for capability in (80, 90)
        for plan in ("toy", "same")
        for kernel in ("multiply", "double")
    ]
    # What two plans launch alike is compiled once: even its seconds are the same.
    assert rows[0] | {"plan": ""} == rows[2] | {"plan": ""}
    assert all(0 < row["occupancy"] <= 1 and row["seconds"] > 0 for row in rows)
    lines = result.stdout.splitlines()
    assert lines[0].startswith("| GPU | plan | type | kernel | warps | registers | spilled bytes |")
    assert len(lines) == 2 + len(rows)
    assert lines[2].startswith("| sm_80 | toy | fp16 | multiply | 4 |")


@pytest.fixture(scope="module")
def shipped(repository_root: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The report at full width: float16 for every architecture; float32, which takes longest, for the
    oldest and the newest. The narrow preset for sm_90. `make kernels-report` compiles all for all.
    """
    report = tmp_path_factory.mktemp("report") / "kernels.json"
    rows: list[dict[str, Any]] = []
    choices = (
        ["--dtype", "fp16", "--matching", " x "],
        ["--dtype", "fp32", "--capability", "80", "120", "--matching", " x "],
        ["--dtype", "fp16", "bf16", "--capability", "90", "--matching", "compact"],
    )
    for choice in choices:
        command = ["-m", "kernels.compilation", *choice, "--json", str(report)]
        result = run_apart(repository_root, *command)
        assert result.returncode == 0, result.stderr
        rows += json.loads(report.read_text())
    return rows


@pytest.mark.timeout(1800)
def test_no_shipped_kernel_spills_on_any_architecture(shipped: list[dict[str, Any]]) -> None:
    assert {row["capability"] for row in shipped} == set(CAPABILITIES)
    assert {row["plan"].split(",")[0] for row in shipped} == {"fusion", "memory attention", "depth-wise GELU"}
    columns = ("spill_stores", "spill_loads", "stack_bytes", "local_memory_instructions")
    spilling = [row for row in shipped if any(row[column] for column in columns)]
    assert not spilling, compilation.table(spilling)


@pytest.mark.timeout(1800)
def test_shipped_matrix_products_run_on_tensor_cores(shipped: list[dict[str, Any]]) -> None:
    assert any(row["uses_dot"] for row in shipped)
    without = [row for row in shipped if row["uses_dot"] != (row["tensor_core_instructions"] > 0)]
    assert not without, compilation.table(without)


@pytest.mark.timeout(1800)
def test_shipped_kernels_fit_and_need_nothing_but_their_arguments(shipped: list[dict[str, Any]]) -> None:
    refused = [row for row in shipped if row["scratch_bytes"] or not row["occupancy"]]
    assert not refused, compilation.table(refused)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("dtype", "title"), [("fp16", "float16: registers"), ("fp32", "float32 (tf32x3): registers")])
def test_the_table_in_the_readme_is_this_report(
    shipped: list[dict[str, Any]], repository_root: Path, dtype: str, title: str
) -> None:
    """Cells read "registers / shared KB / tensor-core instructions", a column an architecture."""
    text = (repository_root / "kernels" / "README.md").read_text().partition(title)[2]
    lines = [line for line in text.partition("\n\n")[2].split("\n\n")[0].splitlines() if line.startswith("| `")]
    written = {
        line.split("`")[1]: dict(zip(CAPABILITIES, (cell.strip() for cell in line.split("|")[3:-1]), strict=True))
        for line in lines
    }
    found: dict[str, dict[int, str]] = {}
    for row in shipped:
        if row["dtype"] == dtype and " x " in row["plan"]:
            kibibytes = f"{row['shared_bytes'] / 1024:.0f}"
            cell = f"{row['registers']} / {kibibytes} / {row['tensor_core_instructions']}"
            found.setdefault(row["name"], {}).setdefault(row["capability"], cell)
    assert written.keys() == found.keys()
    for name, cells in found.items():
        assert cells == {capability: written[name][capability] for capability in cells}, name
