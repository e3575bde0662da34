"""Which build of torch set-up installs, by what the driver says; a machine without one gets what it always got."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from requirements.torch_choice import CPU, CUDA, choose
from tests.conftest import REPOSITORY
from tests.service.cards.stand_in_driver import H200, NO_DRIVER, seeing

LINES = {
    name: [line for line in (REPOSITORY / name).read_text().splitlines() if line and not line.startswith("#")]
    for name in (CPU, CUDA)
}


def test_a_driver_with_a_card_gets_the_cuda_build() -> None:
    file, why = choose("auto", seeing(H200))
    assert file == CUDA
    assert why == "NVIDIA H200 (compute capability 9.0); driver 580.95.05, CUDA up to 13.0"
    # A driver that does not say what it runs is taken at its card's word.
    assert choose("auto", seeing(H200, cuda=None))[0] == CUDA


def test_without_a_driver_or_a_card_it_is_the_cpu_build() -> None:
    assert choose("auto", NO_DRIVER) == (CPU, NO_DRIVER.reason)
    hidden = seeing(reason="CUDA_VISIBLE_DEVICES=-1 hides all 1")
    assert choose("auto", hidden) == (CPU, hidden.reason)


def test_a_driver_too_old_gets_the_cpu_build_and_the_reason() -> None:
    file, why = choose("auto", seeing(H200, version="570.86.10", cuda=(12, 8)))
    assert file == CUDA.replace("-cuda", "")
    assert "driver 570.86.10, CUDA up to 12.8, and the CUDA build is for 13.0, which needs driver 580" in why


def test_a_word_is_taken_and_another_refused() -> None:
    assert choose("cpu", seeing(H200))[0] == CPU
    assert choose("cuda", NO_DRIVER)[0] == CUDA
    with pytest.raises(ValueError, match="TORCH=gpu; must be one of auto, cpu, cuda"):
        choose("gpu", NO_DRIVER)


def test_both_files_hold_one_version_and_the_cuda_one_no_cpu_build() -> None:
    (cpu,) = LINES[CPU]
    cuda, torchvision = LINES[CUDA]
    assert torchvision.startswith("torchvision==")
    assert cuda.split(",")[0] == cpu
    version = cpu.removeprefix("torch==")
    taken = SpecifierSet(cuda.removeprefix("torch"))
    assert [taken.contains(version + local) for local in ("", "+cu130", "+cpu")] == [True, True, False]
    assert all("://" not in line for lines in LINES.values() for line in lines)


def test_it_runs_before_anything_is_installed() -> None:
    command = [sys.executable, "-S", "-m", "requirements.torch_choice"]
    for words, file in (((), None), (("cpu",), CPU), (("cuda",), CUDA)):
        done = subprocess.run([*command, *words], cwd=REPOSITORY, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout in ([f"{file}\n"] if file else [f"{CPU}\n", f"{CUDA}\n"])
    done = subprocess.run([*command, "gpu"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout that is set up for the CPU, as far as make looks."""
    (tmp_path / "Makefile").write_bytes((REPOSITORY / "Makefile").read_bytes())
    names = ["torch", "torch-cuda", "sam2", "tritonserver", "locked/build", "locked/checkout", "locked/server"]
    needed = [*(f"requirements/{name}.txt" for name in names), "requirements/checkout.py"]
    made = [".venv/.ready", ".venv-server/.ready"]
    for age, name in enumerate([*needed, *made]):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1000 + age, 1000 + age))
    return tmp_path


def planned(checkout: Path, *words: str) -> str:
    """What `make setup` would run."""
    done = subprocess.run(["make", "-n", "setup", *words], cwd=checkout, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_set_up_is_repeated_only_for_the_other_build(checkout: Path) -> None:
    for words in ((), ("TORCH=auto",), ("TORCH=cpu",)):
        assert "venv --clear" not in planned(checkout, *words)
    again = planned(checkout, "TORCH=cuda")
    assert "venv --clear .venv\n" in again
    assert "-m requirements.torch_choice cuda > .venv/.torch" in again
    assert ".venv-server" not in again
    (checkout / ".venv" / ".torch").write_text(f"{CUDA}\n")
    assert "venv --clear" not in planned(checkout, "TORCH=cuda")
    assert "venv --clear .venv\n" in planned(checkout, "TORCH=cpu")
    assert "must be auto, cpu or cuda" in planned(checkout, "TORCH=gpu")
    # The environment holds what its own file said, and follows it alone.
    (checkout / CPU).touch()
    assert "venv --clear" not in planned(checkout)
    (checkout / CUDA).touch()
    assert "venv --clear .venv\n" in planned(checkout)


def test_cards_are_told_in_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from requirements import torch_choice

    two = seeing(H200, replace(H200, index=1))
    monkeypatch.setattr(torch_choice, "installed_driver", lambda: type("Here", (), {"look": lambda self: two})())
    monkeypatch.setattr(sys, "argv", ["torch_choice"])
    torch_choice.main()
    said = capsys.readouterr()
    assert said.out == f"{CUDA}\n"
    assert said.err.startswith("torch: the CUDA build (NVIDIA H200 (compute capability 9.0), NVIDIA H200")
