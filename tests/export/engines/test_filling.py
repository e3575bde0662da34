"""A build's engines: built, compared, put in place; with stand-ins for what a machine without a GPU lacks.

A stand-in engine is its graph, emulated where that is narrow, so every comparison is a real one.
"""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import numpy_helper

from auralsam2_client.contract import STAGE_NAMES
from export.engines.engine_graphs import graph_path, write_engine_graphs
from export.engines.filling import add_engines, engine_path
from export.engines.tensorrt import EngineRecord, check_engine, read_record, record_path
from export.errors import ParityError
from tests.export.engines.engine_stand_ins import ADA, L4, FakeBuilder, FakeDriver, fake_tensorrt, verbs

pytestmark = pytest.mark.usefixtures("card")


@pytest.fixture
def build(tmp_path: Path, small_build: Path, gpu_graphs: dict[str, Path]) -> Path:
    """A folder with graphs and golden clip, ready for engines."""
    folder = tmp_path / "build"
    folder.mkdir()
    shutil.copy2(small_build / "golden.npz", folder)
    write_engine_graphs(gpu_graphs, folder, "float32", print)
    return folder


def fill(build: Path, builder: FakeBuilder, precision: str = "float32") -> tuple[dict[str, EngineRecord], list[str]]:
    lines: list[str] = []
    return add_engines(build, "tensorrt", (), precision, builder, lines.append), lines


def test_engines_are_built_compared_and_put_in_place(build: Path, builder: FakeBuilder, card: FakeDriver) -> None:
    records, lines = fill(build, builder)
    assert [verb for verb, _ in verbs(lines)] == ["building", "warning", "built"] * 4 + ["checked"] * 5
    for name in STAGE_NAMES:
        engine = engine_path(build, "tensorrt", name)
        assert engine == build / "models" / name / "1" / "model.plan"
        assert check_engine(engine, builder, onnx=graph_path(build, name)) == records[name]
        assert records[name].parity
    assert [row["output"] for row in records["hiera"].parity][-1] == "AUDIO_TOKENS_AFTER_HIERA"
    whole = records["sam2_decoder"].parity[-1]
    assert (whole["stage"], whole["output"]) == ("auralsam2", "MASK_LOGITS")
    assert whole["mask_agreement"] > 0.999
    # Nothing stays on the card, and nothing beside the engines.
    assert card.buffers == {}
    assert sorted(path.name for path in build.iterdir()) == ["golden.npz", "graphs", "models"]
    again, lines = fill(build, builder)
    assert again == records
    assert verbs(lines) == [["kept", name] for name in STAGE_NAMES]
    assert builder.builds == 4


def scaled(graph: Path, factor: float) -> bytes:
    """The graph with its largest matrix multiplied."""
    proto = onnx.load(graph)
    largest = max((t for t in proto.graph.initializer if len(t.dims) == 2), key=lambda t: t.dims[0] * t.dims[1])
    largest.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(largest) * factor, largest.name))
    return bytes(proto.SerializeToString())


@pytest.mark.parametrize("wrong", ["vggish", "hiera"])
def test_an_engine_that_answers_wrongly_never_enters(build: Path, builder: FakeBuilder, wrong: str) -> None:
    fill(build, builder)
    before = {name: read_record(engine_path(build, "tensorrt", name)) for name in STAGE_NAMES}
    spoilt = fake_tensorrt(
        ADA, engine_of=lambda graph: scaled(graph, 1.05) if graph.stem == wrong else graph.read_bytes()
    )
    spoilt.version = "11.5"
    with pytest.raises(
        ParityError, match=f"{wrong} engine vs its graph: .* relative RMS .* budget .* not put into the repository"
    ):
        fill(build, spoilt)
    assert {name: read_record(engine_path(build, "tensorrt", name)) for name in STAGE_NAMES} == before


def test_without_the_card_nobody_has_compared_them(build: Path, engine_of: Callable[[Path], bytes]) -> None:
    lines: list[str] = []
    ahead = FakeBuilder(engine_of=engine_of)
    records = add_engines(build, "tensorrt-rtx", (89, 120), "float32", ahead, lines.append)
    assert {path.name for path in (build / "engines").iterdir()} == {
        f"{name}.plan{suffix}" for name in STAGE_NAMES for suffix in ("", ".json")
    }
    assert all(record.parity == () and record.capabilities == (89, 120) for record in records.values())
    assert "not compared" in lines[-1]


@pytest.mark.parametrize("what", ["half", "manifest lost", "engine lost"])
def test_one_that_is_not_whole_is_built_again(build: Path, builder: FakeBuilder, what: str) -> None:
    records, _ = fill(build, builder)
    hiera = engine_path(build, "tensorrt", "hiera")
    if what == "half":
        hiera.write_bytes(hiera.read_bytes()[: hiera.stat().st_size // 2])
    else:
        (record_path(hiera) if what == "manifest lost" else hiera).unlink()
    again, lines = fill(build, builder)
    assert verbs(lines)[:2] == [["kept", "vggish"], ["building", "hiera"]]
    assert [verb for verb, _ in verbs(lines)].count("built") == 1
    assert again["hiera"].engine_sha256 == records["hiera"].engine_sha256


@pytest.mark.parametrize("other", [{"card": L4}, {"version": "11.5"}])
def test_another_card_or_version_has_engines_of_its_own(
    build: Path, builder: FakeBuilder, other: dict[str, Any]
) -> None:
    fill(build, builder)
    moved = dataclasses.replace(builder, **other)
    records, lines = fill(build, moved)
    assert [verb for verb, _ in verbs(lines)].count("built") == 4
    assert all("Build the engine again" in line for line in lines if line.startswith("note"))
    assert all(check_engine(engine_path(build, "tensorrt", name), moved) == records[name] for name in STAGE_NAMES)
