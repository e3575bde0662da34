"""A checkpoint is read from disk or from the hub, its tensors and nothing else; any other file is refused by name."""

import logging
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

WRAPPED: list[Callable[[State], Any]] = [
    lambda s: s,
    lambda s: {"model": s},
    lambda s: {"state_dict": s, "epoch": 3},
    lambda s: {"state_dict": {"model": {"module": s}}},
    lambda s: {"model": {"name": "compact"}, "model_state_dict": s, "optimizer": {"state": {}}},
    lambda s: {"ema": {"module": s, "decay": 0.999}},
    lambda s: {"state_dict_ema": {"a": torch.zeros(1)}, "state_dict": s},
]


@pytest.mark.parametrize("wrap", WRAPPED)
@pytest.mark.parametrize("suffix", [".pth", ".PTH", ".ckpt", ""])
def test_files_of_torch(filled: State, tmp_path: Path, suffix: str, wrap: Callable[[State], Any]) -> None:
    path = tmp_path / f"released{suffix}"
    torch.save(wrap(filled), path)
    assert_same(checkpoints.read(str(path)), filled)


@pytest.mark.parametrize("suffix", [".safetensors", ".SafeTensors", ".pth", ""])
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


MALFORMED = (
    *("hf://", "hf://owner", "hf://owner/repository", "hf://owner//file.pth", "hf:/owner/repository/file.pth"),
    *("HF://owner/repository/file.pth", "hf:owner/repository/file.pth", "hf://owner/repository/../file.pth"),
    *("hf://a/b/../..", "hf://owner/repository/folder/"),
)


@pytest.mark.parametrize("reference", MALFORMED)
def test_a_hub_reference_of_another_form(reference: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_a, **_k: pytest.fail("the hub was asked"))
    with pytest.raises(CheckpointError, match=r"write hf://owner/repository/path/file\.pth\[@revision\]"):
        checkpoints.fetch(reference)


@pytest.mark.parametrize("page", ["blob", "resolve", "raw"])
def test_an_address_of_the_web_is_told_how_it_is_written(page: str) -> None:
    address = f"https://huggingface.co/owner/repository/{page}/{{}}/ckpts/file.pth"
    with pytest.raises(CheckpointError, match=r"of the web; write hf://owner/repository/ckpts/file\.pth$"):
        checkpoints.check(address.format("main"))
    with pytest.raises(CheckpointError, match=r"write hf://owner/repository/ckpts/file\.pth@v1$"):
        checkpoints.fetch(address.format("v1") + "?download=true")
    with pytest.raises(CheckpointError, match=r"an address of the web\. Download the file, and give its path"):
        checkpoints.fetch("https://example.org/file.pth")


def test_checking_reads_first_bytes_and_asks_no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_a, **_k: pytest.fail("the hub was asked"))
    monkeypatch.setattr(torch, "load", lambda *_a, **_k: pytest.fail("all of it was read"))
    torch.save({"a": torch.zeros(2)}, tmp_path / "a.pth")
    (tmp_path / "page.pth").write_text("<!DOCTYPE html><html>")
    checkpoints.check(None, "hf://owner/repository/file.pth", str(tmp_path / "a.pth"))
    with pytest.raises(CheckpointError, match=r"page\.pth: an HTML page"):
        checkpoints.check("hf://owner/repository/file.pth", None, str(tmp_path / "page.pth"))


def test_a_hub_that_does_not_answer(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("huggingface_hub.utils._http")

    def unreachable(*_args: str, **_kwargs: str | None) -> str:
        log.warning("Name or service not known, thrown while requesting HEAD")
        raise LocalEntryNotFoundError("no network")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", unreachable)
    with pytest.raises(CheckpointError, match=r"cannot be downloaded .* download it elsewhere"):
        checkpoints.fetch("hf://owner/repository/file.pth")
    assert caplog.messages == [], "one sentence, and no word of a library"
    log.warning("of somebody else's call")
    assert len(caplog.messages) == 1


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
    for name, words in (
        ("hostile.pth", r": it needs code, which is not run \(.*pathlib\.Path"),
        ("plain.pth", r" \(.*needs code"),
    ):
        with pytest.raises(CheckpointError, match=rf"not a readable weights-only checkpoint{words}.*\.safetensors"):
            checkpoints.read(str(tmp_path / name))
    assert not touched.exists()


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no such file. Give a path, or hf://"):
        checkpoints.read(str(tmp_path / "nowhere.pth"))
    with pytest.raises(CheckpointError, match=r"a folder\. Give the file of weights that is in it"):
        checkpoints.read(str(tmp_path))
    (tmp_path / "link.pth").symlink_to(tmp_path / "nowhere.pth")
    with pytest.raises(CheckpointError, match=r"link\.pth: a link to a file that is not there"):
        checkpoints.read(str(tmp_path / "link.pth"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([1, 2], r", but a list\."),
        (torch.zeros(2), r", but a Tensor\."),
        ({}, "but nothing"),
        ({"model": {"weight": 3}}, r"but model \(a dict\)"),
        ({"weight": torch.zeros(1), "epoch": 3}, r"but epoch \(a int\)\. Store the tensors alone"),
        ({"network": {"weight": torch.zeros(1)}, "step": 3}, r"but network \(a dict\), step \(a int\)"),
    ],
)
def test_a_file_that_holds_something_else(tmp_path: Path, content: Any, words: str) -> None:
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=rf"^other\.pth: holds no plain dictionary of tensors.*{words}"):
        checkpoints.read(str(tmp_path / "other.pth"))
