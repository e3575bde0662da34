"""What nvidia-smi says, read by a stand-in of it."""

from pathlib import Path

import pytest

from auralsam2_client.errors import ConfigError
from service.builds.gpus import Gpu, find_gpus, require_gpus
from tests.service.toy.installed import card, on_path, without_smi, write_smi

L4 = Gpu(0, "NVIDIA L4", 89, 23034 << 20)


@pytest.fixture(autouse=True)
def every_card_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def seen(monkeypatch: pytest.MonkeyPatch, folder: Path, *cards: str, status: int = 0) -> tuple[Gpu, ...]:
    monkeypatch.setenv("PATH", on_path(write_smi(folder, *cards, status=status)))
    return find_gpus()


def test_one_card(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert seen(monkeypatch, tmp_path, card()) == (L4,)
    assert require_gpus("tensorrt") == (L4,)
    assert str(L4) == "NVIDIA L4 (compute capability 8.9)"
    assert (tmp_path / "smi-arguments").read_text().split() == [
        "--query-gpu=index,uuid,name,compute_cap,memory.total",
        "--format=csv,noheader,nounits",
    ]


def test_two_cards(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert seen(monkeypatch, tmp_path, card(), card(1, "NVIDIA H200", "9.0", 143771)) == (
        L4,
        Gpu(1, "NVIDIA H200", 90, 143771 << 20),
    )


def test_a_capability_of_two_digits_is_read_as_such(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert seen(monkeypatch, tmp_path, card(capability="12.0"))[0].capability == 120


def test_what_is_not_said_is_unknown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert seen(monkeypatch, tmp_path, card(name="NVIDIA GB10", capability="[N/A]", mebibytes="[N/A]")) == (
        Gpu(0, "NVIDIA GB10", None, None),
    )


@pytest.mark.parametrize(
    ("chosen", "names"),
    [
        ("1", ["B"]),
        ("2,0", ["C", "A"]),
        ("GPU-1aaa", ["B"]),
        ("0,7,1", ["A"]),
        ("MIG-3f6e", ["A", "B", "C"]),
    ],
)
def test_only_what_cuda_shows_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, chosen: str, names: list[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    found = seen(monkeypatch, tmp_path, *(card(index, name) for index, name in enumerate("ABC")))
    assert [gpu.name for gpu in found] == names
    # CUDA counts those that it shows from zero.
    assert [gpu.index for gpu in found] == list(range(len(names)))


def test_without_a_card_the_reason_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    words = "target onnx-gpu needs an NVIDIA GPU and none is seen: "
    monkeypatch.setenv("PATH", without_smi())
    with pytest.raises(ConfigError, match=words + r"nvidia-smi is not on PATH\. .*--gpus all.*--target cpu"):
        require_gpus("onnx-gpu")
    assert seen(monkeypatch, tmp_path) == ()
    with pytest.raises(ConfigError, match=words + "nvidia-smi lists no card"):
        require_gpus("onnx-gpu")
    assert seen(monkeypatch, tmp_path, "Driver is not loaded.", status=9) == ()
    with pytest.raises(ConfigError, match=words + r"nvidia-smi ends with 9: Driver is not loaded\. "):
        require_gpus("onnx-gpu")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert seen(monkeypatch, tmp_path, card()) == ()
    with pytest.raises(ConfigError, match=words + "CUDA_VISIBLE_DEVICES=-1 hides all 1"):
        require_gpus("onnx-gpu")
