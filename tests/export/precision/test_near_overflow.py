"""Which tensors come near float16's largest number, on clips with own sound of every split, and a silent one."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx_ir import DataType

from auralsam2.data.world.held_out import read_split
from auralsam2.data.world.scenes import SPLITS
from auralsam2.stages.clip_stages import Stage, build_stages
from auralsam2_client.contract import STAGE_NAMES
from auralsam2_client.media.stills.frames import resize_frames
from export.gates.parity import run_network
from export.graphs.chain import run_clip, split_calls
from export.graphs.onnx_graph import export_stage
from export.loading import load_model
from export.precision.half_precision import cast_graph
from export.precision.largest_values import largest_values
from export.precision.stage_casts import NEAR_OVERFLOW, cast_stage
from export.precision.type_rules import LARGEST
from export.settings import ExportSettings
from model_repository.stage_runtime.engine import Array, load_engine
from tests.export.overflow import near_overflow
from tests.export.precision.cast_graphs import Graph, every_stage, read


def real_clips(settings: ExportSettings) -> list[dict[str, Array]]:
    samples = [sample for split in SPLITS for sample in read_split(split, 1, num_frames=settings.num_frames)]
    clips: list[dict[str, Array]] = [
        {"FRAMES": resize_frames(sample.frames, settings.size), "AUDIO": sample.windows} for sample in samples
    ]
    return [*clips, {**clips[0], "AUDIO": np.zeros_like(clips[0]["AUDIO"])}]


@pytest.fixture(scope="module")
def largest(
    small_settings: ExportSettings, plain_stages: tuple[Stage, ...], plain_graphs: dict[str, Path]
) -> dict[str, dict[str, float]]:
    """Of every tensor of every stage, at 224 px, where the fusion's rows straddle channels."""
    wires, found = real_clips(small_settings), {}
    for stage in plain_stages:
        engine = load_engine("onnxruntime", plain_graphs[stage.name])
        calls = [call for wire in wires for call in split_calls(engine, wire)]
        found[stage.name] = largest_values(plain_graphs[stage.name], *calls)
        for wire in wires:
            wire |= run_clip(engine, wire)
    return found


def narrow_ones(names: Iterable[str], graph: Graph) -> list[str]:
    """Those of the tensors that are not float32 in a cast graph."""
    types = {str(value.name): value.dtype for node in graph for value in node.outputs}
    return [name for name in names if types.get(name) != DataType.FLOAT]


@every_stage
def test_the_recorded_tensors_are_those_near_overflow(
    stage: str, largest: dict[str, dict[str, float]], stage_cast: Callable[[str, str], Graph]
) -> None:
    near = near_overflow(largest[stage], "float16")
    assert near == NEAR_OVERFLOW[stage]
    assert not narrow_ones(near, stage_cast(stage, "float16"))


def test_the_largest_value_is_the_fusion_s(largest: dict[str, dict[str, float]]) -> None:
    """A float16 engine has a factor of four left, and a bit; before the division moved it was 1e6."""
    peak = {stage: max(values.values()) for stage, values in largest.items()}
    assert max(peak, key=lambda stage: peak[stage]) == "aural_fuser"
    assert 1e3 < peak["aural_fuser"] < LARGEST["float16"] / 4


def test_the_fusion_by_blocks_is_not_near_overflow_either(tmp_path: Path) -> None:
    """At 256 px, the preset's own size."""
    settings = ExportSettings(num_frames=2, engine="onnxruntime")
    stages = build_stages(load_model(settings), 2, 0, settings.read_out, 2)
    vggish, hiera, fuser, _ = stages
    wire = {name: torch.from_numpy(value) for name, value in real_clips(settings)[1].items()}
    wire |= run_network(vggish, wire)
    wire |= run_network(hiera, wire)
    inputs = {spec.name: wire[spec.name].numpy() for spec in fuser.inputs}
    largest = largest_values(export_stage(fuser, tmp_path / "fuser.onnx"), inputs)
    assert near_overflow(largest, "float16") == NEAR_OVERFLOW["aural_fuser"]


def test_what_comes_near_overflow_is_found_and_can_be_kept(
    plain_graphs: dict[str, Path], plain_stages: tuple[Stage, ...], tmp_path: Path
) -> None:
    """With louder sound the fusion, a product of three, comes near: the checks above see it, and `keep` cures it."""
    proto = onnx.load(plain_graphs["aural_fuser"])
    for weight in proto.graph.initializer:
        if weight.name.endswith("fusion_modules.0.sound_in"):
            array = onnx.numpy_helper.to_array(weight) * np.float32(64)
            weight.CopyFrom(onnx.numpy_helper.from_array(array, weight.name))
    onnx.save(proto, tmp_path / "loud.onnx")
    draw = np.random.default_rng(0)
    fuser = plain_stages[STAGE_NAMES.index("aural_fuser")]
    inputs = {spec.name: draw.standard_normal(spec.shape, dtype=np.float32) for spec in fuser.inputs}
    near = near_overflow(largest_values(tmp_path / "loud.onnx", inputs), "float16")
    assert near
    cast_stage("aural_fuser", tmp_path / "loud.onnx", tmp_path / "cast.onnx", "float16")
    assert narrow_ones(near, read(tmp_path / "cast.onnx"))
    cast_graph(tmp_path / "loud.onnx", tmp_path / "kept.onnx", "float16", keep=near)
    assert not narrow_ones(near, read(tmp_path / "kept.onnx"))
