"""On what the network computes: names, what `auto` finds, and a refusal that says what is missing."""

import pytest
import torch

from auralsam2.computing import choose_device, explain_full_memory, open_device, rounding
from auralsam2.errors import NetworkError


def card(monkeypatch: pytest.MonkeyPatch, here: bool, built_for: str | None = "13.0") -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: here)
    monkeypatch.setattr(torch.version, "cuda", built_for)


@pytest.mark.parametrize("here", [True, False])
def test_auto_is_the_card_where_there_is_one(monkeypatch: pytest.MonkeyPatch, here: bool) -> None:
    card(monkeypatch, here)
    assert choose_device("auto") == ("cuda" if here else "cpu")
    assert choose_device("cpu") == "cpu"
    assert open_device("cpu") == torch.device("cpu")


def test_a_card_is_opened_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    card(monkeypatch, True)
    assert choose_device("cuda") == "cuda"
    assert open_device("cuda") == torch.device("cuda", 0)


@pytest.mark.parametrize(
    ("built_for", "words"),
    [
        (None, r"a CPU build, sees no card\. Install a CUDA build with: make setup TORCH=cuda, or take --device cpu\."),
        ("13.0", r"built for CUDA 13\.0, sees no card\. Look for .*: auralsam2 doctor, or take --device cpu\."),
    ],
)
def test_without_a_card_cuda_is_refused_with_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, built_for: str | None, words: str
) -> None:
    card(monkeypatch, False, built_for)
    with pytest.raises(NetworkError, match=rf"device cuda: PyTorch .*, {words}"):
        choose_device("cuda")
    with pytest.raises(NetworkError, match="sees no card"):
        open_device("cuda")


def test_an_unknown_device_is_named() -> None:
    with pytest.raises(NetworkError, match="device 'gpu' is unknown; choose one of cpu, cuda, auto"):
        choose_device("gpu")


def test_a_full_card_is_told_with_ways_out() -> None:
    words = r"memory of cpu is full\. .*fewer frames.*--image-size.*--device cpu"
    with pytest.raises(NetworkError, match=words), explain_full_memory(torch.device("cpu")):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def test_rounding_is_bfloat16_or_nothing() -> None:
    x, w = torch.ones(2, 3), torch.ones(3, 4)
    cpu = torch.device("cpu")
    with rounding(cpu, "bfloat16"):
        assert (x @ w).dtype == torch.bfloat16
    with rounding(cpu, "float32"):
        assert (x @ w).dtype == torch.float32
