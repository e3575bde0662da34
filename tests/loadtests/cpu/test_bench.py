"""The bench of a CPU: its arithmetic, its table and picture, and one whole case on the demo's network."""

import json
from pathlib import Path
from typing import Any

import pytest

from loadtests.cases.case import Case
from loadtests.cpu import __main__ as command
from loadtests.cpu import ways
from loadtests.cpu.measure import hiera_flop, measure
from loadtests.cpu.report import draw_waterfall, machine, markdown
from loadtests.cpu.ways import GRAPHS, REFERENCE, SERVICE, Apart


def test_a_case_is_named_by_network_size_and_frames() -> None:
    case = Case.parse("hiera_base_plus:1024:5")
    assert (case.preset, case.image_size, case.num_frames) == ("hiera_base_plus", 1024, 5)
    assert case.name == "hiera_base_plus-1024-t5"


@pytest.mark.parametrize("text", ["hiera_tiny", "hiera_tiny:512", "hiera_tiny:512:five"])
def test_what_is_no_case_is_told_the_form(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--cases", text, "--out", str(tmp_path)]) == 1
    assert "write it as hiera_base_plus:1024:5" in capsys.readouterr().err


def test_our_hiera_counts_fewer_operations() -> None:
    flop = hiera_flop(Case("compact", 224, 2))
    assert 0 < flop["ours"] < flop["published"]
    assert hiera_flop(Case("compact", 224, 4))["ours"] == 2 * flop["ours"]


def test_a_process_that_fails_says_why(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError, match=r"our graphs, one process: ConfigError: .*golden\.npz"),
        Apart(GRAPHS, tmp_path),
    ):
        pass


def test_bfloat16_is_left_out_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ways, "openvino_capabilities", lambda: ["FP32", "INT8"])
    assert (
        ways.unavailable("published, eager bfloat16", compile_too=False)
        == "this CPU has no bfloat16 (AVX512_BF16 or AMX)"
    )
    monkeypatch.setattr(ways, "openvino_capabilities", lambda: ["FP32", "BF16"])
    assert ways.unavailable("published, eager bfloat16", compile_too=False) is None
    assert ways.unavailable(REFERENCE, compile_too=False) is None


def test_compiling_is_left_out_unless_it_is_asked_for() -> None:
    assert "--compiled" in (ways.unavailable(ways.COMPILED, compile_too=False) or "")
    assert ways.unavailable(ways.COMPILED, compile_too=True) is None


@pytest.fixture(scope="module")
def record(compact_build: Path) -> dict[str, Any]:
    """One turn of every way that runs on any CPU."""
    return measure(Case("compact", 256, 5), compact_build, 1, lambda line: None)


def test_every_way_answers_with_the_same_masks(record: dict[str, Any]) -> None:
    assert {REFERENCE, GRAPHS, SERVICE} <= set(record["ways"])
    for name in (REFERENCE, GRAPHS, SERVICE):
        way = record["ways"][name]
        assert way["mask_iou"] > 0.999
        assert way["frames_per_s"] == pytest.approx(5 / way["median_s"])
        assert 1e8 < way["peak_bytes"] < 8e9
    assert record["ways"][REFERENCE]["ratio"] == 1.0
    assert 0 < record["second_start_s"] < 300
    # Stages add up to the clip, but for what lies between them.
    spent = record["ways"][GRAPHS]["stages_s"]
    assert list(spent) == ["vggish", "hiera", "aural_fuser", "sam2_decoder"]
    assert sum(spent.values()) == pytest.approx(record["ways"][GRAPHS]["median_s"], rel=0.05)


def test_table_and_picture_show_what_was_measured(record: dict[str, Any], tmp_path: Path) -> None:
    text = markdown([json.loads(json.dumps(record))], machine())
    rows = [line for line in text.splitlines() if line.startswith("| `compact`, 256, 5 |")]
    assert len(rows) == len(record["ways"])
    assert f"| {record['ways'][SERVICE]['frames_per_s']:.2f} |" in text
    assert "GFLOP/s" in text
    assert f"compact-256-t5 {record['second_start_s']:.0f} s" in text
    draw_waterfall([record], machine(), tmp_path / "waterfall.png")
    assert (tmp_path / "waterfall.png").read_bytes().startswith(b"\x89PNG")


def test_what_was_measured_is_not_measured_again(
    record: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "compact-256-t5-auto.json").write_text(json.dumps(record))
    monkeypatch.setattr(command, "measure", lambda *given: pytest.fail("measured again"))
    assert command.main(["--cases", "compact:256:5", "--out", str(tmp_path)]) == 0
    assert "| `compact`, 256, 5 |" in capsys.readouterr().out
    assert (tmp_path / "waterfall.png").is_file()
