"""The cache of compiled models: only what fits the hash of an earlier start is loaded, whatever asks for it."""

import os
from pathlib import Path

import pytest

from auralsam2_client.errors import ConfigError
from service.builds import compiled_models
from service.builds.compiled_models import CheckedModels, check_compiled_models, record_compiled_models
from service.server.launcher import Launcher
from tests.service.toy import build_folder as toy
from tests.service.toy.running import toy_config

NAMES = ("prompts.blob", "sound.blob")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    for name in NAMES:
        (tmp_path / name).write_bytes(name.encode() * 1000)
    (tmp_path / "of-somebody-else").write_text("stays")
    record_compiled_models(tmp_path, CheckedModels())
    return tmp_path


def damage(blob: Path) -> None:
    """Overwrite a few bytes in the middle; size and time stay, as on a disk that rots."""
    before = blob.stat()
    with blob.open("r+b") as file:
        file.seek(before.st_size // 2)
        file.write(b"\0" * 16)
    os.utime(blob, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_what_fits_its_hash_stays(cache: Path) -> None:
    checked = check_compiled_models(cache)
    assert sorted(checked.digests) == list(NAMES)
    assert checked.damaged == ()


@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_model_is_deleted_with_its_hash(cache: Path, name: str) -> None:
    damage(cache / name)
    checked = check_compiled_models(cache)
    assert checked.damaged == (name,)
    assert set(checked.digests) == {*NAMES} - {name}
    assert not list(cache.glob(f"{name}*"))
    assert (cache / "of-somebody-else").exists()


def test_two_that_changed_their_names_are_damaged(cache: Path) -> None:
    first, second = (cache / name for name in NAMES)
    first.rename(cache / "between")
    second.rename(first)
    (cache / "between").rename(second)
    assert check_compiled_models(cache).damaged == NAMES


@pytest.mark.parametrize("beside", [None, "", "no hash", "0" * 64, "\xff\xfe"])
def test_what_nothing_proves_is_compiled_again_without_a_word(cache: Path, beside: str | None) -> None:
    note = cache / f"{NAMES[0]}{compiled_models.HASH_SUFFIX}"
    note.unlink()
    if beside is not None:
        note.write_text(beside)
    checked = check_compiled_models(cache)
    assert checked.damaged == ()
    assert sorted(checked.digests) == [NAMES[1]]
    assert not (cache / NAMES[0]).exists()


def test_what_rots_during_a_start_is_not_written_down_as_right(cache: Path) -> None:
    checked = check_compiled_models(cache)
    damage(cache / NAMES[0])
    record_compiled_models(cache, checked)
    assert check_compiled_models(cache).damaged == NAMES[:1]


def test_a_damaged_model_that_cannot_be_deleted_is_not_served(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied")

    damage(cache / NAMES[0])
    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(ConfigError, match=r"prompts\.blob .* cannot be deleted .* --cache-dir"):
        check_compiled_models(cache)


COMPILING = """

class TritonPythonModel(TritonPythonModel):
    def initialize(self, args):
        # As an engine does: what lies in the cache is loaded unseen, what does not is compiled and kept.
        blob = os.path.join(CACHE, "prompts.blob")
        if not os.path.exists(blob):
            with open(blob, "wb") as file:
                file.write(b"compiled" * 1000)
"""


def test_a_start_on_a_rotten_cache_compiles_again(tmp_path: Path) -> None:
    build = toy.write(tmp_path / "build")
    model = build / "models" / "vggish" / "1" / "model.py"
    model.write_text(model.read_text() + COMPILING)
    toy.write_manifest(build)
    blob = build / "cache" / "prompts.blob"
    lines: list[str] = []
    with Launcher(toy_config(build), sink=lambda line: None) as launcher:
        right = blob.read_bytes()
        assert launcher.num_damaged_models == 0
    damage(blob)
    with Launcher(toy_config(build), sink=lines.append) as launcher:
        assert blob.read_bytes() == right
        assert launcher.num_damaged_models == 1
    assert len([line for line in lines if "prompts.blob did not fit its hash" in line]) == 1
    assert sorted(check_compiled_models(build / "cache").digests) == ["prompts.blob"]
