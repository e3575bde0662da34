"""What a device fails with, in one sentence; and the note about a card that is gone."""

import json
from pathlib import Path

import pytest
import torch

from auralsam2_client.contract import LAUNCH_VARIABLE, Reason, failed_cards_path
from model_repository.stage_runtime.pytorch.device import failures
from model_repository.stage_runtime.pytorch.device.failures import Card

CARD = Card(torch.device("cpu"), "NVIDIA H200", "GPU-aaaaaaaa")


@pytest.fixture
def note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(LAUNCH_VARIABLE, "auralsam2_1_ab_")
    monkeypatch.setattr(failures, "failed_cards_path", lambda mark: tmp_path / f"{mark}failed")
    return tmp_path / "auralsam2_1_ab_failed"


def test_no_memory_left_is_told_and_the_card_stays(note: Path) -> None:
    failed = CARD.explain(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
    assert failed is not None
    assert failed.reason == Reason.UNREADY
    assert str(failed).startswith("NVIDIA H200 has no memory left for this request. Repeat it after a pause")
    assert not note.exists()


def test_a_card_that_is_gone_is_noted_once_for_each_error(note: Path) -> None:
    error = torch.AcceleratorError("CUDA error: device-side assert triggered\nCompile with TORCH_USE_CUDA_DSA")
    failed = CARD.explain(error)
    assert failed is not None
    assert failed.reason == Reason.UNREADY
    assert "NVIDIA H200 has failed and is taken out of service" in str(failed)
    (line,) = note.read_text().splitlines()
    assert json.loads(line) == {
        "uuid": "GPU-aaaaaaaa",
        "name": "NVIDIA H200",
        "words": "CUDA error: device-side assert triggered",
    }


def test_no_memory_of_the_runtimes_own_is_no_failed_card(note: Path) -> None:
    error = torch.AcceleratorError("CUDA error: out of memory")
    error.error_code = 2  # type: ignore[attr-defined]  # PyTorch sets it where it raises, from its CUDA's own number
    failed = CARD.explain(error)
    assert failed is not None
    assert "has no memory left for this request" in str(failed)
    assert not note.exists()


def test_a_note_that_cannot_be_written_is_no_second_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LAUNCH_VARIABLE, "auralsam2_1_ab_")
    monkeypatch.setattr(failures, "failed_cards_path", lambda mark: tmp_path / "removed" / mark)
    assert CARD.explain(torch.AcceleratorError("CUDA error: unknown")) is not None


def test_an_error_of_our_own_is_not_the_cards(note: Path) -> None:
    assert CARD.explain(ValueError("zip() argument 2 is longer")) is None
    assert not note.exists()


def test_without_a_launch_nobody_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(LAUNCH_VARIABLE, raising=False)
    monkeypatch.setattr(failures, "_append", lambda *_: pytest.fail("nothing is written"))
    assert CARD.explain(torch.AcceleratorError("CUDA error: unknown")) is not None


def test_the_note_lies_with_what_the_launcher_removes() -> None:
    assert failed_cards_path("auralsam2_1_ab_") == Path("/dev/shm/auralsam2_1_ab_failed_cards")
