"""The need of shared memory, of repositories that this test writes."""

from pathlib import Path

import pytest

from service.machine.shared_memory import BESIDE_BYTES, needed_bytes

MIB = 1 << 20


def write(models: Path, name: str, text: str) -> None:
    (models / name).mkdir(parents=True)
    (models / name / "config.pbtxt").write_text(f'name: "{name}" {text}')


def tensor(kind: str, mebibytes: int) -> str:
    return f'{kind} {{ name: "{kind.upper()}" data_type: TYPE_FP32 dims: [{mebibytes}, 512, 512] }}'


@pytest.fixture
def models(tmp_path: Path) -> Path:
    write(tmp_path, "small", f'backend: "python" {tensor("input", 1)} {tensor("output", 3)}')
    write(tmp_path, "large", f'backend: "python" {tensor("input", 4)} {tensor("output", 5)}')
    write(tmp_path, "engine", f'backend: "tensorrt" {tensor("input", 50)}')
    write(tmp_path, "whole", f'platform: "ensemble" {tensor("input", 50)}')
    return tmp_path


def test_each_python_stage_holds_one_request(models: Path) -> None:
    assert needed_bytes(models, 4 * MIB, 4 * MIB) == BESIDE_BYTES + (4 + 12) * MIB
    assert needed_bytes(models, 4 * MIB, MIB) == BESIDE_BYTES + (4 + 9) * MIB
    assert needed_bytes(models, 4 * MIB, 4 * MIB, on_cards=True) == BESIDE_BYTES + 8 * MIB


def test_sessions_hold_a_clips_features_too(models: Path) -> None:
    write(models, "whole_session", f'backend: "python" {tensor("input", 1)} instance_group {{ count: 2 }}')
    write(models, "whole_features", f'platform: "ensemble" {tensor("input", 3)} {tensor("output", 4)}')
    assert needed_bytes(models, 4 * MIB, 4 * MIB) == BESIDE_BYTES + (4 + 12 + 2 * 8) * MIB
