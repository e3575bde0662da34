"""int8: which layers, what enters, and what a machine without NNCF is told."""

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from auralsam2 import AuralSAM2
from auralsam2.stages.clip_stages import Stage
from export.errors import ExportError, ParityError
from export.gates.parity import Array, compare
from export.graphs.chain import run_clip
from export.precision.quantization import SCOPES, check_mask_iou, linear_layers, mask_iou, quantise
from export.settings import ExportSettings
from model_repository.stage_runtime.engine import engines, load_engine

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


def test_linear_layers_are_those_of_trunk_and_visual_blocks(
    protos: dict[str, onnx.ModelProto], small_model: AuralSAM2
) -> None:
    trunk, fuser = small_model.v_model.image_encoder.trunk, small_model.aural_fuser
    # Queries, keys, values, projection, two of the MLP; one more where a stage widens the tokens.
    wanted = sum(6 + (block.dim != block.dim_out) for block in trunk.blocks)
    assert len(linear_layers(protos["hiera"], SCOPES[0])) == wanted
    assert len(linear_layers(protos["hiera"], SCOPES[1])) == 2 * len(trunk.blocks)
    # Queries, projection, two of the MLP; keys and values come from 3 x 3 tokens a frame here, too few. Nothing of the
    # sound's blocks.
    num_blocks = sum(len(stage) for stage in fuser.f_blocks)
    assert len(linear_layers(protos["aural_fuser"], SCOPES[0])) == 4 * num_blocks
    assert len(linear_layers(protos["aural_fuser"], SCOPES[1])) == 2 * num_blocks
    assert linear_layers(protos["vggish"], SCOPES[0]) == []


def test_int8_layers_answer_nearly_as_float32(
    small_graphs: dict[str, Path], small_stages: tuple[Stage, ...], small_clip: dict[str, Array], tmp_path: Path
) -> None:
    pytest.importorskip("nncf", reason="NNCF is not installed: pip install nncf")
    (stage,) = (stage for stage in small_stages if stage.name == "hiera")
    frames = {"FRAMES": small_clip["FRAMES"]}
    out = tmp_path / "int8.onnx"
    done = quantise(small_graphs["hiera"], out, [{"FRAMES": frame[None]} for frame in frames["FRAMES"]], SCOPES[0])
    written = onnx.load(out)
    int8 = [tensor for tensor in written.graph.initializer if tensor.data_type == onnx.TensorProto.INT8]
    assert sum(len(tensor.dims) == 2 for tensor in int8) == done.layers
    # Three of four bytes of each of their weights are gone.
    saved = small_graphs["hiera"].stat().st_size - out.stat().st_size
    assert saved == pytest.approx(3 * sum(int(np.prod(tensor.dims)) for tensor in int8), rel=0.1)
    narrow, wide = (run_clip(load_engine("openvino", path), frames) for path in (out, small_graphs["hiera"]))
    for spec in stage.outputs:
        error = compare("hiera", spec.name, narrow[spec.name], wide[spec.name]).relative_rms
        assert 1e-3 < error < 0.2, spec.name
        assert np.isfinite(narrow[spec.name]).all()


def test_int8_is_for_openvino_and_named_in_the_build() -> None:
    assert ExportSettings(precision="int8").name == "compact-256-t5-int8"
    with pytest.raises(ExportError, match="'int8'; onnxruntime computes in float32"):
        ExportSettings(engine="onnxruntime", precision="int8")


def test_without_nncf_one_line_says_what_to_install(
    small_graphs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(ExportError, match=r"nncf is not installed .*pip install nncf$"):
        quantise(small_graphs["hiera"], tmp_path / "int8.onnx", [], SCOPES[0])


def test_a_graph_without_such_layers_is_refused(small_graphs: dict[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("nncf", reason="NNCF is not installed: pip install nncf")
    with pytest.raises(ExportError, match="vggish: no linear layer for int8"):
        quantise(small_graphs["vggish"], tmp_path / "int8.onnx", [], SCOPES[0])


def test_masks_decide(
    small_graphs: dict[str, Path], small_stages: tuple[Stage, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a CPU with bfloat16 it would be chosen, in which OpenVINO does not answer a 14 x 14 map twice the same.
    monkeypatch.setattr(engines, "openvino_capabilities", lambda: ["FP32"])
    assert mask_iou(small_stages, small_graphs, small_graphs, 2, 224) == 1.0
    check_mask_iou(0.9701, SCOPES[0])
    with pytest.raises(ParityError, match=r"int8 \(all linear layers\): .* IoU of 0\.9690 .* at least 0\.97"):
        check_mask_iou(0.969, SCOPES[0])
