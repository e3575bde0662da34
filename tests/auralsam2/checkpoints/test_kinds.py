"""A file is what its bytes say: every kind that people have in place of weights is told by its name and its way out."""

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save as to_safetensors

from auralsam2 import checkpoints
from auralsam2.checkpoints.kinds import kind_of
from auralsam2.errors import CheckpointError, TrainingError
from auralsam2.model.loading import load_network
from auralsam2.training import run_folder
from auralsam2.training.run.trainer import train
from auralsam2.training.settings import TrainSettings
from auralsam2.training.start.starting import Weights
from export.loading import load_model
from export.settings import ExportSettings

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d" * 32 + b"\nsize 142345678\n"
STATE = {"a": torch.arange(3.0), "b": torch.zeros(50)}


def of_torch(**options: bool) -> bytes:
    content = io.BytesIO()
    torch.save(STATE, content, **options)
    return content.getvalue()


def zipped(name: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(name, b"hello")
    return content.getvalue()


def scripted() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in ("w/data.pkl", "w/constants.pkl", "w/code/__torch__.py"):
            archive.writestr(name, b"")
    return content.getvalue()


def tarred() -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("weights.pth"), io.BytesIO())
    return content.getvalue()


def of_numpy() -> bytes:
    content = io.BytesIO()
    np.savez(content, a=np.ones(2))
    return content.getvalue()


OTHERS: list[tuple[str, bytes, str]] = [
    ("lfs", POINTER, "a Git LFS pointer, .* git lfs pull"),
    ("annex", b"/annex/objects/SHA256E-s12--ab.pth\n", "a pointer of git-annex.* git annex get"),
    ("empty", b"", "an empty file"),
    ("html", b"\n<!DOCTYPE html>\n<html><head><title>Sign in</title>" + b"x" * 9000, "an HTML page, .* hf://owner"),
    ("html without its type", b"\xef\xbb\xbf<HTML lang='de'>\xc3\xa4", "an HTML page"),
    ("json", b'{"error":\n "Repository not found"}', r"a JSON text, .*'\{\"error\": \"Repository not found\"\}'"),
    ("xml", b"<?xml version='1.0'?><Error><Code>AccessDenied</Code>", "an XML text, .*AccessDenied"),
    ("text", b"version of 2026\n", "a text: 'version of 2026'"),
    ("numbers", bytes(range(256)), "neither what torch.save writes nor safetensors; it begins with 00 01 02"),
    ("zip", zipped("weights.pth"), r"a zip archive that torch\.save did not write; it holds weights\.pth\. Unpack it"),
    ("npz", of_numpy(), r"a zip archive .* holds a\.npy"),
    ("tar", tarred(), r"a tar archive\. Unpack it"),
    ("gzip", b"\x1f\x8b\x08" + bytes(50), r"a gzip archive\. Unpack it"),
    ("hdf5", b"\x89HDF\r\n\x1a\n" + bytes(50), "an HDF5 file"),
    ("script", scripted(), "a TorchScript archive, which holds code"),
    ("cut", of_torch()[:900], "an archive that breaks off after 900 bytes, .* Fetch the file again"),
    ("cut safetensors", to_safetensors(STATE)[:-3], "a safetensors file that breaks off after .* bytes"),
    ("cut header", to_safetensors(STATE)[:20], "a safetensors file that breaks off after 20 of"),
]


@pytest.mark.parametrize(("content", "words"), [case[1:] for case in OTHERS], ids=[case[0] for case in OTHERS])
@pytest.mark.parametrize("name", ["weights.pth", "WEIGHTS.SAFETENSORS"])
def test_what_is_no_weights_is_told(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    for ask in (checkpoints.check, checkpoints.read):
        with pytest.raises(CheckpointError, match=rf"^{name}: {words}") as raised:
            ask(str(tmp_path / name))
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("seed", range(6))
def test_a_damaged_file_is_read_or_told_and_nothing_else(tmp_path: Path, seed: int) -> None:
    """Bytes are changed, mostly in the head, or the end is cut. What is refused is refused in one line."""
    contents = (of_torch(), of_torch(_use_new_zipfile_serialization=False), to_safetensors(STATE))
    random, path, told = np.random.default_rng(seed), tmp_path / "w.pth", list[str]()
    for _ in range(50):
        content = np.frombuffer(contents[random.integers(3)], np.uint8).copy()
        within = len(content) if random.uniform() < 0.5 else 200
        places = random.integers(within, size=random.integers(1, 12))
        content[places] = random.choice(np.array([0, 255, 99], np.uint8), size=len(places))
        path.write_bytes(content[: None if random.uniform() < 0.8 else random.integers(len(content))].tobytes())
        try:
            checkpoints.read(str(path))
        except CheckpointError as error:
            told.append(str(error))
    assert told
    assert [line for line in told if "\n" in line or not line.startswith("w.pth: ")] == []


@pytest.mark.parametrize("content", [of_torch(), of_torch(_use_new_zipfile_serialization=False)], ids=["new", "old"])
@pytest.mark.parametrize("name", ["a.pth", "A.PT", "weights", "a.safetensors"])
def test_what_torch_wrote_is_known_by_any_name(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert kind_of(tmp_path / name) == "torch"
    assert checkpoints.read(str(tmp_path / name))["a"].tolist() == [0, 1, 2]


def test_safetensors_under_another_name_are_read_and_named(tmp_path: Path, filled: dict[str, torch.Tensor]) -> None:
    (tmp_path / "w.pth").write_bytes(to_safetensors(filled))
    torch.save(filled, tmp_path / "w.safetensors")
    assert load_network("compact", 224, str(tmp_path / "w.pth"))[1] == "weights w.pth (safetensors under another name)"
    about = load_network("compact", 224, str(tmp_path / "w.safetensors"))[1]
    assert about == "weights w.safetensors (of torch.save under another name)"


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Weights that may not be read, since the file beside them is an HTML page."""
    good, page = tmp_path / "good.pth", tmp_path / "page.pth"
    torch.save(STATE, good)
    page.write_bytes(b"<html>")
    monkeypatch.setattr(torch, "load", lambda *_a, **_k: pytest.fail("weights were read first"))
    return str(good), str(page)


def test_every_file_is_looked_at_before_one_is_read(pair: tuple[str, str], tmp_path: Path) -> None:
    good, page = pair
    with pytest.raises(CheckpointError, match="an HTML page"):
        load_network("compact", 224, good, page)
    with pytest.raises(CheckpointError, match="an HTML page"):
        load_model(ExportSettings(checkpoint=good, sam2_checkpoint=page))
    for weights in (Weights(good, page), Weights(good, vggish_checkpoint=page)):
        with pytest.raises(CheckpointError, match="an HTML page"):
            train(TrainSettings(steps=1), tmp_path / "run", weights)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("content", "words"), [(POINTER, "a Git LFS pointer"), (b"", "an empty file")])
def test_a_run_that_cannot_be_resumed_says_what_lies_there(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / run_folder.CHECKPOINT).write_bytes(content)
    with pytest.raises(TrainingError, match=rf"not a readable training checkpoint \(.*{words}.*\) Remove it"):
        run_folder.load_checkpoint(tmp_path, TrainSettings())


@pytest.mark.parametrize("content", [{"settings": 3}, [1], {"weights": torch.zeros(1)}])
def test_a_run_s_checkpoint_without_settings(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / run_folder.CHECKPOINT)
    with pytest.raises(TrainingError, match="not a readable training checkpoint: no run's settings"):
        run_folder.load_checkpoint(tmp_path, TrainSettings())
