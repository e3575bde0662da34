"""Engines that must not be served: the message says what is wrong with which, and the command that mends it."""

from pathlib import Path

import pytest

from auralsam2_client.errors import ConfigError
from service.builds.engine_check import check_engine_caches, check_engines
from service.builds.gpus import Gpu
from tests.service.toy import build_folder as toy
from tests.service.toy.installed import name_engine_cache, write_engine, write_gpu_build

L4 = Gpu(0, "NVIDIA L4", 89, None)
H200 = Gpu(1, "NVIDIA H200", 90, None)


@pytest.fixture
def build(tmp_path: Path) -> Path:
    return write_gpu_build(tmp_path / "build", "tensorrt")


def engine(build: Path, stage: str = "aural_fuser") -> Path:
    return build / "models" / stage / "1" / "model.plan"


def refused(build: Path, words: str, *cards: Gpu) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        check_engines(build, cards or (L4,))
    assert str(caught.value).endswith(f"auralsam2 engines --build {build}")


def test_engines_of_this_card_pass(build: Path) -> None:
    check_engines(build, (L4,))
    check_engines(build, (L4, Gpu(1, "NVIDIA L4", 89, None)))
    # A card that does not say its capability is judged by its name alone.
    check_engines(build, (Gpu(0, "NVIDIA L4", None, None),))
    # No card at all: the engines themselves are whole.
    check_engines(build, ())


def test_every_stage_is_looked_at(build: Path) -> None:
    for stage in toy.STAGES:
        engine(build, stage).rename(build / "aside")
        refused(build, rf"models/{stage}/1/model\.plan does not exist\. ")
        (build / "aside").rename(engine(build, stage))


def test_an_engine_without_manifest_is_not_finished(build: Path) -> None:
    engine(build).with_name("model.plan.json").unlink()
    refused(build, r"models/aural_fuser/1/model\.plan has no manifest model\.plan\.json beside it, .* not finished")


def test_a_manifest_that_is_no_manifest(build: Path) -> None:
    for text in ("{", "[]", "{}", '{"format": 1}'):
        engine(build).with_name("model.plan.json").write_text(text)
        refused(build, r"has a manifest model\.plan\.json that cannot be read")
    write_engine(engine(build), format=2)
    refused(build, "has a manifest of format 2; this version reads 1")


def test_a_half_written_engine(build: Path) -> None:
    engine(build).write_bytes(b"eng")
    refused(build, "has 3 bytes, its manifest says 6: half-written or altered")


def test_an_engine_of_another_card(build: Path) -> None:
    words = r"was built for NVIDIA L4 \(compute capability 8\.9\), and GPU 1 is NVIDIA H200 \(compute capability 9\.0\)"
    refused(build, words, L4, H200)
    # The same architecture is not enough: TensorRT tunes for one model of card.
    refused(build, r"and GPU 0 is NVIDIA L40S \(compute", Gpu(0, "NVIDIA L40S", 89, None))
    # And a name that two cards share is not either.
    write_engine(engine(build), gpu="NVIDIA L4", capabilities=[75])
    refused(build, r"was built for NVIDIA L4 \(compute capability 7\.5\), and GPU 0 is NVIDIA L4")


def test_an_engine_for_several_architectures(build: Path) -> None:
    for stage in toy.STAGES:
        write_engine(engine(build, stage), gpu=None, capabilities=[89, 120])
    check_engines(build, (L4, Gpu(1, "NVIDIA RTX PRO 6000", 120, None)))
    refused(build, r"was built for any card \(compute capability 8\.9 and 12\.0\), and GPU 1 is NVIDIA H200", L4, H200)


def test_an_engine_that_the_server_does_not_load(build: Path) -> None:
    write_engine(engine(build), flavour="tensorrt_rtx", version="1.7.1")
    refused(build, r"was built by tensorrt_rtx 1\.7\.1; the server loads those of tensorrt")


def test_where_onnx_runtime_keeps_its_engines(build: Path, tmp_path: Path) -> None:
    """ONNX Runtime makes the last folder of the path, and ends the model's start when it cannot."""
    folder = tmp_path / "var" / "hiera"
    name_engine_cache(build, folder)
    words = rf"hiera/config\.pbtxt keeps its engines in {folder}, and {folder.parent} is not there .*mount a volume"
    with pytest.raises(ConfigError, match=words):
        check_engine_caches(build / "models")
    folder.parent.mkdir()
    check_engine_caches(build / "models")
