"""Compiled code beside a build: read once it is whole, made again when it is not, of one card and one PyTorch."""

from pathlib import Path

import pytest
import torch

from model_repository.stage_runtime.pytorch.compile_cache import CompileCache
from model_repository.stage_runtime.pytorch.network import Network

ARTIFACTS = b"what Inductor made" * 100


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What was given to PyTorch, in place of compiling."""
    given = list[bytes]()

    def load(artifacts: bytes) -> object:
        given.append(artifacts)
        return object() if artifacts == ARTIFACTS else None

    monkeypatch.setattr(torch.compiler, "load_cache_artifacts", load)
    monkeypatch.setattr(torch.compiler, "save_cache_artifacts", lambda: (ARTIFACTS, None))
    return given


def cache(folder: Path | None, network: Network, lines: list[str], card: str = "NVIDIA H200") -> CompileCache:
    return CompileCache(folder, card, network.description, lines.append)


def test_a_second_start_reads_what_the_first_wrote(tmp_path: Path, network: Network, loaded: list[bytes]) -> None:
    lines = list[str]()
    first = cache(tmp_path, network, lines)
    assert not first.read()
    first.write()
    second = cache(tmp_path, network, lines)
    assert second.read()
    assert loaded == [ARTIFACTS]
    second.write()
    assert [path.suffix for path in tmp_path.iterdir()] == [".inductor"]
    assert lines == []


@pytest.mark.parametrize("where", [0, 10, 40, -1])
def test_a_damaged_file_is_deleted_said_and_made_again(
    where: int, tmp_path: Path, network: Network, loaded: list[bytes]
) -> None:
    lines = list[str]()
    cache(tmp_path, network, lines).write()
    (path,) = tmp_path.iterdir()
    damaged = bytearray(path.read_bytes())
    damaged[where] ^= 1
    path.write_bytes(damaged)
    again = cache(tmp_path, network, lines)
    assert not again.read()
    assert loaded == [], "nothing damaged reaches PyTorch"
    assert not path.exists()
    assert len(lines) == 1
    assert "does not fit its hash" in lines[0]
    again.write()
    assert cache(tmp_path, network, lines).read()


def test_half_a_file_is_damaged_too(tmp_path: Path, network: Network, loaded: list[bytes]) -> None:
    lines = list[str]()
    cache(tmp_path, network, lines).write()
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[: len(ARTIFACTS) // 2])
    assert not cache(tmp_path, network, lines).read()
    assert "does not fit its hash" in lines[0]


def test_another_card_and_another_torch_have_files_of_their_own(
    tmp_path: Path, network: Network, loaded: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = list[str]()
    cache(tmp_path, network, lines).write()
    assert not cache(tmp_path, network, lines, card="NVIDIA L4").read()
    monkeypatch.setattr(torch, "__version__", "9.0")
    assert not cache(tmp_path, network, lines).read()


def test_without_a_folder_or_without_anything_compiled_nothing_is_kept(
    tmp_path: Path, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.compiler, "save_cache_artifacts", lambda: None)
    nowhere = cache(None, network, [])
    assert nowhere.path is None
    nowhere.write()
    assert not nowhere.read()
    cache(tmp_path, network, []).write()
    assert list(tmp_path.iterdir()) == []
