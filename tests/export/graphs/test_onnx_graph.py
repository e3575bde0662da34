"""What is written as ONNX: shapes, operators, and that the file computes what it should."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from auralsam2 import AuralSAM2
from auralsam2.network import image_encoder
from auralsam2.network.log_mel import LogMel
from auralsam2.stages.clip_stages import Stage
from auralsam2.stages.image_stages import HieraStage
from auralsam2_client.contract import STAGE_NAMES, TensorSpec
from export.errors import ExportError
from export.gates.parity import Array
from export.graphs import onnx_graph
from export.graphs.onnx_graph import export_stage
from model_repository.stage_runtime.engine import file_sha256, load_engine

# Positions and the Fourier transform are constants; what is complex does not export to every engine.
FORBIDDEN = {"Sin", "Cos", "DFT", "STFT", "ComplexMul", "If", "Loop", "Scan", "Shape", "NonZero", "RandomNormalLike"}
each_stage = pytest.mark.parametrize("name", STAGE_NAMES)


def shape_of(value: Any) -> tuple[int, ...]:
    return tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)


@each_stage
def test_the_file_is_valid_and_of_opset_18_or_later(name: str, small_graphs: dict[str, Path]) -> None:
    onnx.checker.check_model(str(small_graphs[name]), full_check=True)
    (opset,) = [entry.version for entry in onnx.load(small_graphs[name]).opset_import if entry.domain == ""]
    assert opset >= 18


@each_stage
def test_only_standard_operators(name: str, protos: dict[str, onnx.ModelProto]) -> None:
    assert not protos[name].functions
    assert {node.domain for node in protos[name].graph.node} == {""}
    assert not FORBIDDEN & {node.op_type for node in protos[name].graph.node}


@each_stage
def test_inputs_and_outputs_are_fixed_and_named(
    name: str, protos: dict[str, onnx.ModelProto], small_stages: tuple[Stage, ...]
) -> None:
    stage, graph = small_stages[STAGE_NAMES.index(name)], protos[name].graph
    for specs, values in ((stage.inputs, graph.input), (stage.outputs, graph.output)):
        assert [spec.name for spec in specs] == [value.name for value in values]
        for spec, value in zip(specs, values, strict=True):
            assert not any(dim.dim_param for dim in value.type.tensor_type.shape.dim)
            assert shape_of(value) == (stage.frames_per_call, *spec.shape[1:])


@each_stage
def test_no_shape_inside_depends_on_data(name: str, protos: dict[str, onnx.ModelProto]) -> None:
    for value in protos[name].graph.value_info:
        dims = value.type.tensor_type.shape.dim
        assert not any(dim.dim_param for dim in dims), value.name


@each_stage
def test_every_input_is_read(name: str, protos: dict[str, onnx.ModelProto]) -> None:
    graph = protos[name].graph
    read = {used for node in graph.node for used in node.input}
    assert {value.name for value in graph.input} <= read
    assert {tensor.name for tensor in graph.initializer} <= read | {value.name for value in graph.output}


@each_stage
def test_the_weights_are_inside_the_file(name: str, small_graphs: dict[str, Path]) -> None:
    path = small_graphs[name]
    proto = onnx.load(path, load_external_data=False)
    assert not any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in proto.graph.initializer)
    beside = {file.name for file in path.parent.iterdir() if file.is_file()}
    if name == "sam2_decoder":
        # The graphs of prompts, which share one file of weights.
        index = json.loads((path.parent / "prompted.json").read_text())
        beside -= {"prompted.json", *index["files"]}
    assert beside == {"model.onnx", "model.py"}


def test_positions_of_hiera_are_constant_and_not_resized(protos: dict[str, onnx.ModelProto]) -> None:
    """A bicubic Resize of the position embedding costs minutes at every start in OpenVINO."""
    modes = [
        attribute.s
        for node in protos["hiera"].graph.node
        if node.op_type == "Resize"
        for attribute in node.attribute
        if attribute.name == "mode"
    ]
    # The one that is left is the FPN's top-down path.
    assert modes == [b"nearest"]


def test_no_map_of_full_width_at_stride_4_or_8_exists_in_hiera(
    protos: dict[str, onnx.ModelProto], small_model: AuralSAM2
) -> None:
    graph = protos["hiera"].graph
    convolved = {node.output[0] for node in graph.node if node.op_type == "Conv"}
    shapes = [shape_of(value) for value in (*graph.value_info, *graph.output) if value.name in convolved]
    assert len(shapes) == len(convolved)
    width, side = small_model.preset.width, small_model.image_size // 16
    assert not [shape for shape in shapes if shape[1] == width and shape[2] > side]
    # The folded readers themselves are there.
    assert (1, width // 8, 4 * side, 4 * side) in shapes
    assert (1, width // 4, 2 * side, 2 * side) in shapes


def test_hiera_takes_bytes_and_normalises_inside(
    protos: dict[str, onnx.ModelProto],
    small_graphs: dict[str, Path],
    small_model: AuralSAM2,
    small_clip: dict[str, Array],
) -> None:
    assert protos["hiera"].graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    frame = small_clip["FRAMES"][:1]
    found = load_engine("onnxruntime", small_graphs["hiera"])({"FRAMES": frame})["IMAGE_EMBEDDING"]
    # By hand: ImageNet's mean and deviation, and nothing that the stage under test computes.
    pixels = torch.from_numpy(frame).permute(0, 3, 1, 2).float() / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normalised = (pixels - mean[:, None, None]) / std[:, None, None]
    sam = small_model.v_model
    with torch.no_grad():
        position = image_encoder.position_embedding(sam.image_encoder.trunk, small_model.image_size)
        wanted = image_encoder.pyramid(sam, normalised, position)[2].numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-4 * np.abs(wanted).max())


def test_vggish_takes_samples_and_computes_log_mel_inside(
    small_graphs: dict[str, Path], small_model: AuralSAM2, small_clip: dict[str, Array]
) -> None:
    found = load_engine("onnxruntime", small_graphs["vggish"])({"AUDIO": small_clip["AUDIO"]})["AUDIO_TOKENS"]
    with torch.no_grad():
        wanted = small_model.aural_fuser.tokens(LogMel()(torch.from_numpy(small_clip["AUDIO"]))).numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-4 * np.abs(wanted).max())


def test_silence_gives_finite_tokens(small_graphs: dict[str, Path], small_clip: dict[str, Array]) -> None:
    silence = np.zeros_like(small_clip["AUDIO"])
    assert np.isfinite(load_engine("onnxruntime", small_graphs["vggish"])({"AUDIO": silence})["AUDIO_TOKENS"]).all()


@pytest.mark.parametrize("name", ["vggish", "hiera"])
def test_the_same_stage_gives_the_same_bytes_in_another_process(
    name: str, small_stages: tuple[Stage, ...], small_graphs: dict[str, Path], tmp_path: Path
) -> None:
    again = export_stage(small_stages[STAGE_NAMES.index(name)], tmp_path / "model.onnx")
    assert file_sha256(again) == file_sha256(small_graphs[name])


class Double(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((4,), 2.0))

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (x * self.weight,)


TINY = Stage("tiny", Double(), (TensorSpec("X", "FP32", (3, 4)),), (TensorSpec("Y", "FP32", (3, 4)),), 1)


def test_a_tiny_stage_is_exported_with_its_frames_per_call(tmp_path: Path) -> None:
    path = export_stage(TINY, tmp_path / "deep" / "model.onnx")
    engine = load_engine("onnxruntime", path)
    assert engine.input_shapes == {"X": (1, 4)}
    x = np.arange(4, dtype=np.float32)[None]
    np.testing.assert_array_equal(engine({"X": x})["Y"], 2 * x)


class Repeating(nn.Module):
    """Reads one weight for every frame, and another, split along each of its axes, part by part."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.shared, self.split = (nn.Parameter(torch.randn(8, 6)) for _ in range(2))

    def forward(self, x: Tensor) -> tuple[Tensor]:
        upper, lower = self.split.split([5, 3])
        left, right = self.split.split([2, 4], dim=1)
        frames = torch.stack([nn.functional.linear(frame[None] + t, self.shared) for t, frame in enumerate(x)])
        return (frames @ torch.cat([lower, upper]) + torch.cat([right, left], dim=1),)


def test_a_weight_of_every_frame_is_kept_once_and_split_before_it_is_written(tmp_path: Path) -> None:
    module = Repeating()
    specs = (TensorSpec("X", "FP32", (3, 8, 6)),), (TensorSpec("Y", "FP32", (3, 1, 8, 6)),)
    path = export_stage(Stage("repeating", module, *specs, 3), tmp_path / "model.onnx")
    graph = onnx.load(path).graph
    assert {"Split", "Constant"} & {node.op_type for node in graph.node} == set()
    floats = [tensor for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT and tensor.dims]
    # The shared weight once, turned; the split one in the two orders that are read.
    assert sorted(tuple(tensor.dims) for tensor in floats) == [(6, 8), (8, 6), (8, 6)]
    x = torch.randn(3, 8, 6)
    with torch.no_grad():
        (wanted,) = module(x)
    np.testing.assert_allclose(load_engine("onnxruntime", path)({"X": x.numpy()})["Y"], wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        ((TensorSpec("Y", "FP32", (3, 5)),), r"\(1, 5\)"),
        ((TensorSpec("Y", "UINT8", (3, 4)),), "UINT8"),
    ],
)
def test_a_specification_that_is_not_the_graphs_is_refused(
    outputs: tuple[TensorSpec, ...], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=f"tiny: model.onnx .* the specification says .*{said}"):
        export_stage(dataclasses.replace(TINY, outputs=outputs), tmp_path / "model.onnx")


def test_a_graph_too_large_for_one_file_is_refused_before_it_is_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(onnx_graph, "MAX_BYTES", 15)
    with pytest.raises(ExportError, match=r"tiny: 16 bytes of weights; one ONNX file holds at most 15\."):
        export_stage(TINY, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_buffers_count_towards_the_limit(
    monkeypatch: pytest.MonkeyPatch, small_model: AuralSAM2, tmp_path: Path
) -> None:
    hiera = HieraStage(small_model)
    parameters = sum(p.numel() * p.element_size() for p in hiera.parameters())
    monkeypatch.setattr(onnx_graph, "MAX_BYTES", parameters)
    with pytest.raises(ExportError, match="hiera"):
        export_stage(Stage("hiera", hiera, (), (), 1), tmp_path / "model.onnx")


def test_an_exporter_that_returns_nothing_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    nothing: Callable[..., None] = lambda *arguments, **options: None  # noqa: E731
    monkeypatch.setattr(torch.onnx, "export", nothing)
    with pytest.raises(ExportError, match="tiny: the ONNX exporter returned nothing"):
        export_stage(TINY, tmp_path / "model.onnx")
