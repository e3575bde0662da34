"""Every code block of the README is run, or held against what the project has; its one figure is the measured one."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from loadtests.collect import RESULTS
from tests.pages import blocks, check_shell, table_rows

# What each example prints, line by line.
PRINTED = (
    (r"\d s: \d+\.\d% of the frame, object score [+-]\d", 5),
    (r"audio(\+points)?(\+box)?: \d+\.\d% of the clip, predicted IoU \d\.\d\d", 4),
)


@pytest.fixture(scope="module")
def readme(repository_root: Path) -> str:
    return (repository_root / "README.md").read_text()


@pytest.mark.parametrize("index", range(len(PRINTED)))
def test_the_python_examples_run_as_they_stand(
    served_compact: Any, demo_clip: Path, readme: str, tmp_path: Path, index: int
) -> None:
    examples = [code for language, code in blocks(readme) if language == "python"]
    assert len(examples) == len(PRINTED)
    # Only the port differs: the test's server listens where there was room.
    code = examples[index].replace("127.0.0.1:8001", served_compact.config.grpc_url)
    shutil.copy(demo_clip, tmp_path / "my.mp4")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    line, count = PRINTED[index]
    assert len(re.findall(f"^{line}", done.stdout, re.MULTILINE)) == count, done.stdout


def test_every_shell_command_exists(readme: str, repository_root: Path) -> None:
    assert sum(check_shell(code, repository_root) for language, code in blocks(readme) if language == "bash") >= 8


def test_ci_calls_the_readmes_own_commands(repository_root: Path) -> None:
    script = (repository_root / ".ci" / "run").read_text()
    assert "make test" in script
    assert "make check" in script


def test_it_is_a_first_screen_and_a_tour(readme: str) -> None:
    assert len(readme.splitlines()) <= 200


def test_the_figure_of_compact_is_the_measured_one(readme: str) -> None:
    case = json.loads((RESULTS / "case_compact-256-t5-auto.json").read_text())
    measured = case["ways"]["our service, gRPC"]
    (row,) = [cells for heads, cells in table_rows(readme) if "frames per second" in heads]
    assert row[0] == f"{case['image_size']} px, {case['num_frames']} frames, through gRPC"
    assert row[1] == f"{measured['frames_per_s']:.1f}"
    # Its conditions, each as the file has it.
    machine = case["machine"]
    openvino = ".".join(machine["versions"]["openvino"].split(".")[:2])
    for condition in (
        f"{machine['cores']} cores of an {machine['cpu']} ({machine['instructions'][0].upper()})",
        f"OpenVINO {openvino} {case['precision']}",
        f"median of {case['repeats']} clips",
    ):
        assert condition in row[2]
    assert f"{measured['ratio']:.2f} times the published implementation" in readme
