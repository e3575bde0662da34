"""Fixtures of the export tests: one small build, exported whole, once; the tests read it or alter copies."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from auralsam2 import AuralSAM2
from auralsam2.stages.clip_stages import Stage, build_stages
from auralsam2_client.contract import STAGE_NAMES
from export.gates.sample_clip import sample_audio, sample_frames
from export.gates.stage_gate import GateResult
from export.loading import load_aural_sam2
from export.settings import ExportSettings
from tests.builds import COMPACT, SMALL, TINY, exported_once, graph_of
from tests.export.graphs_on_gpu import OnGpu, stages_of

Array = npt.NDArray[Any]
Gate = Callable[..., GateResult]


@pytest.fixture(scope="session")
def small_settings() -> ExportSettings:
    return SMALL


@pytest.fixture
def copied_build(small_build: Path, tmp_path: Path) -> Path:
    """The small build, to be altered."""
    return Path(shutil.copytree(small_build, tmp_path / "copied" / small_build.name))


@pytest.fixture(scope="session")
def small_graphs(small_build: Path) -> dict[str, Path]:
    return {name: graph_of(small_build, name) for name in STAGE_NAMES}


@pytest.fixture(scope="session")
def protos(small_graphs: dict[str, Path]) -> dict[str, onnx.ModelProto]:
    return {name: onnx.load(path) for name, path in small_graphs.items()}


@pytest.fixture(scope="session")
def small_model() -> AuralSAM2:
    return load_aural_sam2(SMALL)


@pytest.fixture(scope="session")
def small_stages(small_model: AuralSAM2) -> tuple[Stage, ...]:
    """The stages of the small build, which is for a CPU."""
    return build_stages(
        small_model, SMALL.num_frames, SMALL.conditioning_frame, SMALL.read_out, hiera_frames_per_call=1, for_cpu=True
    )


@pytest.fixture(scope="session")
def plain_stages(small_model: AuralSAM2) -> tuple[Stage, ...]:
    """As `small_stages`, but the decoder's memory attention is as GPUs get it: what is cast to narrow types."""
    return build_stages(small_model, SMALL.num_frames, SMALL.conditioning_frame, SMALL.read_out, 1)


@pytest.fixture(scope="session")
def plain_graphs(small_graphs: dict[str, Path], plain_stages: tuple[Stage, ...]) -> dict[str, Path]:
    """The graphs of `plain_stages`. The decoder's alone differs from that of the small build."""
    return small_graphs | exported_once("small-plain", plain_stages[-1:])


@pytest.fixture(scope="session")
def with_functions(plain_stages: tuple[Stage, ...]) -> dict[str, Path]:
    """Graphs of fuser and decoder in which fused operators are nodes, with functions as bodies."""
    return exported_once("small-functions", plain_stages[2:], inlined=False)


@pytest.fixture(scope="session")
def plain_protos(plain_graphs: dict[str, Path]) -> dict[str, onnx.ModelProto]:
    return {name: onnx.load(path) for name, path in plain_graphs.items()}


@pytest.fixture(scope="session")
def gpu_stages(small_model: AuralSAM2) -> tuple[Stage, ...]:
    """The stages as they go to a GPU: whole clips, audio tokens handed on by hiera."""
    return build_stages(small_model, SMALL.num_frames, 0, SMALL.read_out, SMALL.num_frames, hands_on_tokens=True)


@pytest.fixture(scope="session")
def gpu_graphs(plain_graphs: dict[str, Path], gpu_stages: tuple[Stage, ...]) -> dict[str, Path]:
    """The graphs of `gpu_stages`. Hiera's alone differs from that of `plain_stages`."""
    return plain_graphs | exported_once("small-gpu", gpu_stages[1:2])


@pytest.fixture(scope="session")
def compact_on_gpu(compact_build: Path) -> OnGpu:
    return _on_gpu(COMPACT, compact_build)


@pytest.fixture(scope="session")
def tiny_on_gpu(tiny_build: Path) -> OnGpu:
    return _on_gpu(TINY, tiny_build)


def _on_gpu(settings: ExportSettings, build: Path) -> OnGpu:
    """The graphs of `settings` for a GPU. VGGish's alone is that of the CPU's build."""
    stages = stages_of(settings, on_gpu=True)
    graphs = {stages[0].name: graph_of(build, stages[0].name)}
    graphs |= exported_once(f"{settings.name}-gpu", stages[1:])
    return OnGpu(settings, tuple((stage, graphs[stage.name]) for stage in stages))


@pytest.fixture(scope="session")
def small_clip() -> dict[str, Array]:
    return {"FRAMES": sample_frames(SMALL.num_frames, SMALL.size), "AUDIO": sample_audio(SMALL.num_frames)}


@pytest.fixture
def perturbed(protos: dict[str, onnx.ModelProto], tmp_path: Path) -> Callable[[str, float], Path]:
    """A copy of a stage's graph with one weight multiplied by a factor: the largest matrix; of the decoder, the largest
    that enlarges the masks. The largest of all would not do: the fuser's stands before a layer norm, which undoes the
    factor, and the decoder's is the memory encoder's, of which a clip of two frames makes little use.
    """

    def write(stage: str, factor: float) -> Path:
        proto = onnx.ModelProto()
        proto.CopyFrom(protos[stage])
        weights = [t for t in proto.graph.initializer if t.data_type == onnx.TensorProto.FLOAT and len(t.dims) >= 2]
        enlarging = {node.input[1] for node in proto.graph.node if node.op_type == "ConvTranspose"}
        matrices = [t for t in weights if len(t.dims) == 2]
        weights = [t for t in weights if t.name in enlarging] or matrices or weights
        largest = max(weights, key=lambda tensor: int(np.prod(tensor.dims)))
        value = onnx.numpy_helper.to_array(largest) * np.float32(factor)
        largest.CopyFrom(onnx.numpy_helper.from_array(value.astype(np.float32), largest.name))
        path = tmp_path / f"{stage}-perturbed.onnx"
        onnx.save(proto, path)
        return path

    return write


@pytest.fixture
def ready_made(monkeypatch: pytest.MonkeyPatch, small_build: Path, small_model: AuralSAM2) -> Gate:
    """Let `build_repository` take graphs, network and gate's figures from the small build: seconds become moments.

    Returns: what stands for the gate of stages, so that a test can put its own before it.
    """
    from export.builds import repository, served_precision

    def copy_graphs(settings: ExportSettings, models: Path, report: object) -> dict[str, float]:
        for name in STAGE_NAMES:
            (models / name / "1").mkdir(parents=True)
            for path in (small_build / "models" / name / "1").iterdir():
                prompts = settings.target == "cpu" and path.suffix in (".onnx", ".npz", ".json", ".weights")
                if prompts or path.name == "model.onnx":
                    shutil.copy2(path, models / name / "1")
        return dict.fromkeys(STAGE_NAMES, 0.0)

    def remembered_gate(*arguments: object) -> GateResult:
        with np.load(small_build / "golden.npz") as golden:
            answer = {name: golden[name] for name in ("MASK_LOGITS", "CANDIDATE_LOGITS", "IOU", "OBJECT_SCORE")}
        return GateResult([], answer, answer)

    monkeypatch.setattr(served_precision, "pass_prompt_gate", lambda *arguments: [])
    monkeypatch.setattr(served_precision, "golden_pairs", lambda *arguments: [])
    monkeypatch.setattr(repository, "export_graphs", copy_graphs)
    monkeypatch.setattr(served_precision, "pass_gate", remembered_gate)
    monkeypatch.setattr(repository, "load_model", lambda settings: small_model)
    return remembered_gate


@pytest.fixture
def onnxruntime_settings() -> ExportSettings:
    """The small build's settings for the engine that loads fastest."""
    return dataclasses.replace(SMALL, engine="onnxruntime")
