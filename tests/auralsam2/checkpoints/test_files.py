"""A checkpoint is read from disk or from the hub, its tensors and nothing else; any other file is refused by name."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import save_file

from auralsam2 import checkpoints
from auralsam2.errors import CheckpointError
from tests.auralsam2.checkpoints.forms import (
    State,
    assert_same,
)


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"model": s}, lambda s: {"state_dict": s, "epoch": 3}])
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".PTH"])
def test_files_of_torch(filled: State, tmp_path: Path, suffix: str, wrap: Callable[[State], Any]) -> None:
    path = tmp_path / f"released{suffix}"
    torch.save(wrap(filled), path)
    assert_same(checkpoints.read(str(path)), filled)


@pytest.mark.parametrize("suffix", [".safetensors", ".SafeTensors"])
def test_files_of_safetensors(filled: State, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"released{suffix}"
    save_file(filled, path)
    assert_same(checkpoints.read(str(path)), filled)


@pytest.mark.parametrize("revision", [None, "v1.0"])
def test_a_hub_reference(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, revision: str | None) -> None:
    asked: list[Any] = []
    path = tmp_path / "auralsam2_avs_v1s.pth"

    def download(*args: str, **kwargs: str | None) -> str:
        asked.append((args, kwargs))
        return str(path)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    reference = "hf://yyliu01/AuralSAM2/ckpts/auralsam2_avs_v1s.pth" + (f"@{revision}" if revision else "")
    assert checkpoints.fetch(reference) == path
    assert asked == [(("yyliu01/AuralSAM2", "ckpts/auralsam2_avs_v1s.pth"), {"revision": revision})]


@pytest.mark.parametrize(
    "reference", ["hf://", "hf://owner", "hf://owner/repository", "hf://owner//file.pth", "hf://a/b/../.."]
)
def test_a_hub_reference_of_another_form(reference: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_a, **_k: pytest.fail("the hub was asked"))
    with pytest.raises(CheckpointError, match=r"write hf://owner/repository/path/file\.pth\[@revision\]"):
        checkpoints.fetch(reference)


def test_a_hub_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_args: str, **_kwargs: str | None) -> str:
        raise LocalEntryNotFoundError("no network")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", unreachable)
    with pytest.raises(CheckpointError, match=r"cannot be downloaded .* download it elsewhere"):
        checkpoints.fetch("hf://owner/repository/file.pth")


def test_an_impossible_name_on_the_hub() -> None:
    # The hub's client refuses it before it opens a connection.
    with pytest.raises(CheckpointError, match=r"cannot be downloaded .*HFValidationError"):
        checkpoints.fetch("hf://ow ner/repo sitory/file.pth")


class Hostile:
    def __init__(self, touched: Path) -> None:
        self.touched = touched

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.touched,))


def test_a_pickle_with_code_in_it_is_refused_and_not_run(tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    torch.save({"weight": torch.zeros(1), "code": Hostile(touched)}, tmp_path / "hostile.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Hostile(touched)))
    for name in ("hostile.pth", "plain.pth"):
        with pytest.raises(CheckpointError, match=r"not a readable weights-only checkpoint .*\.safetensors"):
            checkpoints.read(str(tmp_path / name))
    assert not touched.exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("text.pth", b"version of 2026\n", "text.pth: not a readable weights-only checkpoint"),
        ("empty.pth", b"", "empty.pth: not a readable weights-only checkpoint"),
        ("text.safetensors", b"hello", "text.safetensors: not a readable safetensors file"),
        ("weights.ckpt", b"hello", r"weights.ckpt: cannot read .ckpt; it must be .pth, .pt, .safetensors"),
        ("weights", b"hello", "weights: cannot read no suffix"),
    ],
)
def test_files_that_are_no_checkpoint(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        checkpoints.read(str(tmp_path / name))


@pytest.mark.parametrize("name", ["weights.pth", "weights.PT", "weights.safetensors"])
def test_a_git_lfs_pointer(tmp_path: Path, name: str) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "4d" * 32 + "\nsize 142345678\n"
    (tmp_path / name).write_text(pointer)
    with pytest.raises(CheckpointError, match=rf"^{name}: a Git LFS pointer, .* git lfs pull"):
        checkpoints.read(str(tmp_path / name))


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no such file. Give a path, or hf://"):
        checkpoints.read(str(tmp_path / "nowhere.pth"))


@pytest.mark.parametrize("content", [[1, 2], {"model": {"weight": 3}}, torch.zeros(2)])
def test_a_file_that_holds_something_else(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="holds no plain dictionary of tensors"):
        checkpoints.read(str(tmp_path / "other.pth"))
