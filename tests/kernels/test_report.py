"""The compiler's report: on a catalogue of two small kernels first, then the kept one of all that the package ships."""

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("triton", reason="the kernels are compiled by the triton package")

from kernels import report
from kernels.launching.errors import KernelError
from tests.kernels.toy_kernels import run_apart

CAPABILITIES = (80, 86, 89, 90, 100, 120)
TOYS = ["-W", "error", "-m", "kernels.report", "--catalogue", "toy_kernels"]


@pytest.fixture(scope="module")
def made(repository_root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A report on the small kernels for every architecture, and what was printed."""
    path = tmp_path_factory.mktemp("report") / "report.json"
    result = run_apart(repository_root, *TOYS, "--dtype", "fp16", "fp32", "--json", str(path))
    assert result.returncode == 0, result.stderr
    return path, result.stdout


def test_a_row_a_launch(made: tuple[Path, str]) -> None:
    rows = json.loads(made[0].read_text())["rows"]
    assert [(row["capability"], row["plan"], row["dtype"], row["name"]) for row in rows] == [
        (capability, plan, dtype, kernel)
        for capability in CAPABILITIES
        for plan, dtype in (("toy", "fp16"), ("same", "fp16"), ("toy", "fp32"))
        for kernel in ("multiply", "double")
    ]
    assert rows[0] | {"plan": ""} == rows[2] | {"plan": ""}
    assert rows[0]["given"] not in (rows[4]["given"], rows[6]["given"])
    assert all(0 < row["occupancy"] <= 1 for row in rows)
    lines = made[1].splitlines()
    assert lines[0].startswith("| GPU | plan | type | kernel | warps | registers | spilled bytes |")
    assert len(lines) == 2 + len(rows)
    assert lines[2].startswith("| sm_80 | toy | fp16 | multiply | 4 |")


def checked(repository: Path, *paths: Path) -> list[tuple[int, list[str]]]:
    """What the command answers and prints for each report, in one process."""
    code = """
import contextlib, io, json, sys
from kernels.report import main
if __name__ == "__main__":
    answers = []
    for path in sys.argv[1:]:
        with contextlib.redirect_stderr(io.StringIO()) as printed:
            status = main(["--catalogue", "toy_kernels", "--check", path])
        answers.append((status, printed.getvalue().splitlines()))
    print(json.dumps(answers))
"""
    result = run_apart(repository, "-W", "error", "-c", code, *map(str, paths))
    assert (result.returncode, result.stderr) == (0, "")
    return [(status, lines) for status, lines in json.loads(result.stdout)]


def test_a_report_is_checked(made: tuple[Path, str], repository_root: Path, tmp_path: Path) -> None:
    record = json.loads(made[0].read_text())
    # What the sample compiles again: the first kernel on the first architecture, the second on the second.
    place = next(i for i, row in enumerate(record["rows"]) if row["capability"] == 86 and row["name"] == "double")
    registers, record["rows"][place]["registers"] = record["rows"][place]["registers"], 7
    wrong = tmp_path / "wrong.json"
    wrong.write_text(json.dumps(record))
    assert checked(repository_root, made[0], wrong) == [
        (0, []),
        (1, [f"wrong.json: sm_86, toy, fp16, double: registers is {registers}, the report says 7"]),
    ]


def test_another_source_is_found_without_compiling(
    made: tuple[Path, str], repository_root: Path, tmp_path: Path
) -> None:
    record = json.loads(made[0].read_text())
    del record["rows"][3]
    record["rows"][0]["given"] = "0123456789abcdef"
    record["rows"][1]["plan"] = "gone"
    path = tmp_path / "old.json"
    path.write_text(json.dumps(record))
    older = tmp_path / "older.json"
    older.write_text(json.dumps(record | {"triton": "2.0.0"}))
    found, (status, (line,)) = checked(repository_root, path, older)
    assert found == (
        1,
        [
            "old.json: sm_80, toy, fp16, double is not in it",
            "old.json: sm_80, same, fp16, double is not in it",
            "old.json: sm_80, gone, fp16, double is launched no longer",
            "old.json: sm_80, toy, fp16, multiply was compiled from something else",
        ],
    )
    assert status == 1
    assert line.startswith("older.json: it was compiled by Triton 2.0.0; here is 3.")


@pytest.mark.parametrize("text", ["", "[]", '{"triton": "3.9.0"}', '{"triton": "3.9.0", "rows": [{"plan": "toy"}]}'])
def test_what_is_no_report_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "report.json"
    path.write_text(text)
    with pytest.raises(KernelError, match="is not a report that `make kernels-report` wrote"):
        report.check(path)


@pytest.fixture(scope="module")
def shipped() -> list[dict[str, Any]]:
    """The kept report; that it is of the kernels as they are is the next test's."""
    rows: list[dict[str, Any]] = json.loads(report.KEPT.read_text())["rows"]
    return rows


def test_the_kept_report_is_of_these_kernels(repository_root: Path) -> None:
    """All hashes, and a launch of every kernel compiled again. If this fails: `make kernels-report`."""
    result = run_apart(repository_root, "-m", "kernels.report", "--check", str(report.KEPT))
    assert (result.returncode, result.stderr) == (0, "")


def test_no_shipped_kernel_spills_on_any_architecture(shipped: list[dict[str, Any]]) -> None:
    assert {row["capability"] for row in shipped} == set(CAPABILITIES)
    assert {row["dtype"] for row in shipped} == set(report.DTYPES)
    assert {row["plan"].split(",")[0] for row in shipped} == {"fusion", "memory attention", "depth-wise GELU"}
    columns = ("spill_stores", "spill_loads", "stack_bytes", "local_memory_instructions")
    spilling = [row for row in shipped if any(row[column] for column in columns)]
    assert not spilling, report.table(spilling)


def test_shipped_matrix_products_run_on_tensor_cores(shipped: list[dict[str, Any]]) -> None:
    assert any(row["uses_dot"] for row in shipped)
    without = [row for row in shipped if row["uses_dot"] != (row["tensor_core_instructions"] > 0)]
    assert not without, report.table(without)


def test_shipped_kernels_fit_and_need_nothing_but_their_arguments(shipped: list[dict[str, Any]]) -> None:
    refused = [row for row in shipped if row["scratch_bytes"] or not row["occupancy"]]
    assert not refused, report.table(refused)


def test_the_readme_says_how_many_rows(shipped: list[dict[str, Any]], repository_root: Path) -> None:
    text = " ".join((repository_root / "kernels" / "README.md").read_text().split())
    plans = len({row["plan"] for row in shipped})
    assert f"0 in all {len(shipped)} rows of `make kernels-report` ({plans} plans, 3 types, 6 architectures)" in text


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
    assert written == found
