"""The entry point: what it refuses, in one line, before anything is called."""

import os
import subprocess

import pytest

from tests.service.container.surroundings import (
    CARDS,
    ENTRYPOINT,
    IS_ROOT,
    NO_BUILD,
    USAGE,
    Surroundings,
    mounted,
    one_line,
    program,
    read_only,
)
from tests.service.container.tools import tool


def test_root_is_refused(around: Surroundings) -> None:
    program(around.folder / "bin" / "id", "echo 0")
    status, output = around.run()
    assert status == IS_ROOT
    assert "refusing to run as root" in one_line(output)
    assert "AURALSAM2_ALLOW_ROOT=1" in output
    assert around.calls == []
    assert around.run(AURALSAM2_ALLOW_ROOT="1")[0] == 0
    # The variable is documented where people look: in the script's own head.
    assert "AURALSAM2_ALLOW_ROOT" in ENTRYPOINT.read_text().split("set -euo pipefail")[0]


def test_an_unknown_target_is_refused(around: Surroundings) -> None:
    status, output = around.run(AURALSAM2_TARGET="tpu")
    assert status == USAGE
    assert "AURALSAM2_TARGET=tpu is unknown; choose cpu, tensorrt or onnx-gpu." in one_line(output)
    assert around.calls == []


def test_an_unknown_command_is_refused(around: Surroundings) -> None:
    status, output = around.run("doctor")
    assert status == USAGE
    assert "'doctor'" in one_line(output)


def test_an_unknown_option_of_export_is_refused(around: Surroundings) -> None:
    status, output = around.run(AURALSAM2_EXPORT_PRESETT="compact")
    assert status == USAGE
    assert "AURALSAM2_EXPORT_PRESETT" in one_line(output)
    assert "num_frames" in output
    assert around.calls == []


def test_a_flag_of_export_that_is_neither_on_nor_off_is_refused(around: Surroundings) -> None:
    status, output = around.run(AURALSAM2_EXPORT_CLASSES="yes")
    assert status == USAGE
    assert "AURALSAM2_EXPORT_CLASSES is 'yes'; must be 1 or 0" in one_line(output)
    assert around.calls == []


def test_no_build_and_a_volume_that_cannot_be_written(around: Surroundings) -> None:
    status, output = around.run(before=mounted(read_only(around.volume)))
    assert status == NO_BUILD
    line = one_line(output)
    assert "manifest.json is missing" in line
    assert f"cannot write to {around.volume}" in line
    assert "Mount it writable" in line
    assert around.calls == []


def test_no_build_and_no_volume(around: Surroundings) -> None:
    status, output = around.run(AURALSAM2_VOLUME=str(around.folder / "absent"))
    assert status == NO_BUILD
    assert "absent does not exist" in one_line(output)


def test_serve_makes_no_build(around: Surroundings) -> None:
    status, output = around.run("serve")
    assert status == NO_BUILD
    assert "make it with the command build" in one_line(output)
    assert around.calls == []


@pytest.mark.parametrize(
    ("cards", "words"), [("none", "none is seen"), ("several", "NVIDIA H200, 9.0; NVIDIA L4, 8.9")]
)
def test_a_gpu_target_wants_one_kind_of_card(around: Surroundings, cards: str, words: str) -> None:
    program(around.folder / "bin" / "nvidia-smi", CARDS[cards])
    status, output = around.run(AURALSAM2_TARGET="tensorrt")
    assert status == NO_BUILD
    assert words in one_line(output)
    assert around.calls == []


def test_the_script_is_clean() -> None:
    assert os.access(ENTRYPOINT, os.X_OK)
    assert subprocess.run(["bash", "-n", ENTRYPOINT], check=False).returncode == 0
    done = tool("shellcheck", "--severity=style", "--shell=bash", str(ENTRYPOINT))
    assert (done.returncode, done.stdout) == (0, "")
    assert "shellcheck disable" not in ENTRYPOINT.read_text()
    assert tool("shellcheck", "-", given="#!/bin/bash\nrm $1\n").returncode == 1
