"""The graphs of prompts: for which numbers of remembered frames, that places may stay empty, and what the gate sees."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F

from auralsam2 import AuralSAM2
from auralsam2.network.image_encoder import normalise
from auralsam2.network.memory import reach, remember_mask
from auralsam2.stages.prompt_stages import memory_sizes, prompt_stages
from auralsam2_client.contract import WRITE
from export.errors import ParityError
from export.gates.parity import Array, run_network
from export.gates.prompt_gate import pass_prompt_gate
from export.settings import ExportSettings
from model_repository.stage_runtime.prompts.decoder import PromptedDecoder


@pytest.fixture(scope="module")
def folder(small_build: Path) -> Path:
    return small_build / "models" / "sam2_decoder" / "1"


@pytest.mark.parametrize(
    ("num_frames", "sizes"),
    [(1, ()), (2, (1,)), (3, (1, 2)), (5, (1, 2, 3, 4)), (10, (1, 2, 3, 4, 7, 9)), (16, (1, 2, 3, 4, 7, 15))],
)
def test_there_is_a_graph_for_what_a_frame_can_read(num_frames: int, sizes: tuple[int, ...]) -> None:
    assert memory_sizes(num_frames) == sizes
    for prompted in range(num_frames):
        for frame in range(prompted + 1, num_frames):
            reached = reach(range(prompted, frame), frame, (prompted,))
            assert len(reached.frames) <= min(7, sizes[-1])
            assert len(reached.pointers) <= num_frames - 1


def test_empty_places_are_not_read(small_model: AuralSAM2) -> None:
    """Three of four places filled give what a graph of three places gives, whatever lies in the fourth."""
    stages = {stage.name: stage for stage in prompt_stages(small_model, 5)}
    draw = torch.Generator().manual_seed(0)
    read = stages["memory_read_4"]
    inputs = {spec.name: torch.randn(spec.shape, generator=draw) for spec in read.inputs}
    inputs |= {"REMEMBERED": torch.tensor([[1.0, 1, 1, 0]]), "POINTED": torch.tensor([[1.0, 1, 0, 0]])}
    with torch.no_grad():
        filled = run_network(read, inputs)["IMAGE"]
        inputs["MEMORY"][:, 3] *= 100
        inputs["POINTERS"][:, 2:] *= 100
        torch.testing.assert_close(run_network(read, inputs)["IMAGE"], filled, rtol=0, atol=0)
        exact = {name: value[:, :3] for name, value in inputs.items() if name in ("MEMORY", "TEMPORAL", "REMEMBERED")}
        exact |= {name: inputs[name][:, :2] for name in ("POINTERS", "POINTED")}
        (wanted,) = read.module(*(exact.get(spec.name, inputs[spec.name]) for spec in read.inputs))
    torch.testing.assert_close(filled, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("prompted", [True, False])
def test_a_prompted_frames_mask_is_remembered_as_yes_or_no_and_a_tracked_frames_as_it_is(
    small_model: AuralSAM2, prompted: bool
) -> None:
    (write,) = (stage for stage in prompt_stages(small_model, 5) if stage.name == WRITE)
    draw = torch.Generator().manual_seed(0)
    inputs = {spec.name: torch.randn(spec.shape, generator=draw) for spec in write.inputs}
    inputs["PROMPTED"] = torch.full((1,), float(prompted))
    embedding, mask_logits, _ = inputs.values()
    larger = F.interpolate(mask_logits[:, None], scale_factor=4.0, mode="bilinear", align_corners=False)
    with torch.no_grad():
        (found,) = run_network(write, inputs).values()
        hard, soft = (
            remember_mask(small_model.v_model, embedding, mask) for mask in ((larger > 0).float(), larger.sigmoid())
        )
    wanted, other = (hard, soft) if prompted else (soft, hard)
    torch.testing.assert_close(found[0], wanted, rtol=0, atol=1e-5)
    assert (found[0] - other).abs().max() > 1e-3


def test_the_index_names_what_is_there(folder: Path) -> None:
    index = json.loads((folder / "prompted.json").read_text())
    assert (index["format"], index["num_frames"], index["memory_sizes"]) == (2, 2, [1])
    assert set(index["files"]) == {
        "prompt_decode.onnx",
        "memory_write.onnx",
        "memory_prepare.onnx",
        "memory_read_1.onnx",
        "prompted.weights",
        "prompted.npz",
    }
    for name in index["files"]:
        assert (folder / name).is_file()
        if name.endswith(".onnx"):
            assert (folder / name).stat().st_size < 300_000, "weights lie in their own file"


def test_the_gate_refuses_a_graph_that_computes_something_else(
    folder: Path, tmp_path: Path, small_settings: ExportSettings, small_model: AuralSAM2, small_clip: dict[str, Array]
) -> None:
    with torch.no_grad():
        image = small_model.image_features(normalise(torch.from_numpy(small_clip["FRAMES"])))
    names = "HIGH_RES_S4", "HIGH_RES_S8", "IMAGE_EMBEDDING"
    features = {name: part.numpy() for name, part in zip(names, image, strict=True)}
    altered = Path(shutil.copytree(folder, tmp_path / "altered"))
    model = onnx.load(altered / "memory_write.onnx", load_external_data=False)
    bias = next(node for node in model.graph.node if node.op_type == "Sigmoid")
    bias.op_type = "Tanh"
    onnx.save(model, altered / "memory_write.onnx")
    index = json.loads((altered / "prompted.json").read_text())
    from model_repository.stage_runtime.engine import file_sha256

    index["files"]["memory_write.onnx"] = file_sha256(altered / "memory_write.onnx")
    (altered / "prompted.json").write_text(json.dumps(index))

    def load(folder: Path) -> PromptedDecoder:
        return PromptedDecoder.load(folder, small_settings.engine, "float32", None)

    with pytest.raises(ParityError, match="memory_write graph vs PyTorch: MEMORY"):
        pass_prompt_gate(small_settings, small_model, load(altered), "float32", features, lambda line: None)
    rows = pass_prompt_gate(small_settings, small_model, load(folder), "float32", features, lambda line: None)
    assert max(row.relative_rms for row in rows) < 1e-4
    assert np.isfinite([row.max_abs for row in rows]).all()
