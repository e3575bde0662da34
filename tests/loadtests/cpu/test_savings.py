"""Each change that is called a saving saves arithmetic or bytes, and its test exists."""

from pathlib import Path

import pytest
import torch

from auralsam2 import AuralSAM2
from kernels.counting import count_operators
from loadtests.cpu import savings


def test_every_saving_saves_and_is_held_by_a_test(repository_root: Path) -> None:
    model = AuralSAM2.from_preset("compact", 224).eval()
    found = list(savings.savings(model, 3))
    assert len(found) == 8
    for saving in found:
        before, after = count_operators(saving.before), count_operators(saving.after)
        assert after.flop < before.flop, saving.name
        assert (repository_root / "tests" / saving.held_by).is_file()


def test_both_forms_give_the_same() -> None:
    """Those whose forms answer with the same thing; the others are held by the tests that they name."""
    model = AuralSAM2.from_preset("compact", 224).eval()
    compared = 0
    with torch.inference_mode():
        for saving in savings.savings(model, 2):
            before, after = saving.before(), saving.after()
            if before is None or after is None:
                continue
            for one, other in zip(before, after, strict=True):  # type: ignore[call-overload]
                torch.testing.assert_close(other, one, rtol=1e-3, atol=1e-3)
            compared += 1
    assert compared == 3


def test_parameters_without_a_part_are_counted() -> None:
    unused, total = savings.unused_parameters("compact")
    assert 0 < unused < total / 2


def test_the_table_says_before_and_after(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert savings.main(["--case", "compact:224:2", "--rounds", "1", "--out", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert text.count(" -> ") == 3 * 8
    assert text == (tmp_path / "savings.md").read_text() + "\n"
