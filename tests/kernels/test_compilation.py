"""What the compiler says of a launch, on two small kernels (toy_kernels.py)."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

triton = pytest.importorskip("triton", reason="the kernels are compiled by the triton package")

from kernels import compilation  # noqa: E402
from kernels.launching.errors import KernelError  # noqa: E402
from tests.kernels.toy_kernels import accumulate, double, multiply, run_apart, toy_plan  # noqa: E402

CAPABILITIES = (80, 86, 89, 90, 100, 120)


def measured(repository: Path, code: str, **variables: str) -> Any:
    """Run statements that print JSON, in a process whose kernels compile."""
    lines = [
        "import json, torch",
        "from kernels.compilation import assemble, compile_launch, disassemble, uses_dot",
        "from kernels.launching.errors import KernelError",
        "import toy_kernels as toys",
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


@pytest.fixture(scope="module")
def compiled(repository_root: Path) -> dict[str, Any]:
    """Both launches for each architecture, in one process; beside each row what cuobjdump reads of the same code."""
    code = f"""
import re, subprocess, tempfile, triton
answers = {{}}
for capability in {CAPABILITIES}:
    for launch in plan.launches:
        compiled = compile_launch(plan, launch, capability)
        with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
            file.write(compiled.cubin)
            file.flush()
            command = [triton.knobs.nvidia.cuobjdump.path, "--dump-resource-usage", file.name]
            usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        registers, stack = re.search(r"REG:(\\d+) STACK:(\\d+)", usage).groups()
        row = vars(compiled) | {{"own_registers": int(registers), "own_stack": int(stack)}}
        row["wide_loads"] = len(re.findall(r"LDG\\.E\\.128", disassemble(compiled.cubin)))
        del row["cubin"]
        answers.setdefault(capability, []).append(row)
print(json.dumps(answers))
"""
    answers: dict[str, Any] = measured(repository_root, code)
    return answers


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_what_the_compiler_says(compiled: dict[str, Any], repository_root: Path, capability: int) -> None:
    product, twice = compiled[str(capability)]
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
plain = dataclasses.replace(double, kernel=toys.toy_plan)
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
    assert compilation.uses_dot(accumulate)
    assert compilation.uses_dot(multiply)
    assert not compilation.uses_dot(double)
