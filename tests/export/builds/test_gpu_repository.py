"""`--target onnx-gpu`: the same chain and tensors as on the CPU, on a GPU server's own backend, without Python between.

No GPU and no such server is here: the configurations are held against the server's protobuf and the graphs, the graphs
against the network on ONNX Runtime's CPU.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from auralsam2.stages.clip_stages import Stage
from auralsam2_client.contract import BESIDE_GRAPH, CLIP, HANDED_ON, STAGE_NAMES
from auralsam2_client.errors import ConfigError
from export.builds.repository import build_repository
from export.builds.triton_config import check_stage, parse, render, render_gpu, tensors
from export.errors import ExportError
from export.settings import ExportSettings
from model_repository.stage_runtime.engine import load_engine
from service.server.config import ServerConfig
from service.server.launcher import Launcher
from tests.builds import SMALL


@pytest.fixture(scope="module")
def gpu_settings() -> ExportSettings:
    return dataclasses.replace(SMALL, target="onnx-gpu")


@pytest.fixture
def gpu_build(gpu_settings: ExportSettings, ready_made: object, tmp_path: Path) -> Path:
    return build_repository(gpu_settings, tmp_path / gpu_settings.name)


def configs(build: Path) -> dict[str, Any]:
    names = (*STAGE_NAMES, "auralsam2")
    return {name: parse((build / "models" / name / "config.pbtxt").read_text()) for name in names}


def test_settings(gpu_settings: ExportSettings) -> None:
    assert gpu_settings.engine == "onnxruntime"
    assert gpu_settings.name.endswith("-onnx-gpu")
    with pytest.raises(ExportError, match="target 'tpu' is unknown; choose one of cpu, cuda, onnx-gpu"):
        ExportSettings(target="tpu")


def test_a_stage_holds_its_graph_and_nothing_that_needs_python(gpu_build: Path) -> None:
    files = {path.relative_to(gpu_build / "models").as_posix() for path in (gpu_build / "models").rglob("*.*")}
    assert files == {
        "auralsam2/config.pbtxt",
        *(f"{name}/{file}" for name in STAGE_NAMES for file in ("config.pbtxt", "1/model.onnx")),
    }
    assert json.loads((gpu_build / "manifest.json").read_text())["target"] == "onnx-gpu"


def test_stages_run_on_every_gpu_and_are_warm_before_a_client_comes(
    gpu_build: Path, gpu_stages: tuple[Stage, ...]
) -> None:
    found = configs(gpu_build)
    for stage in gpu_stages:
        config = found[stage.name]
        assert (config.platform, config.max_batch_size) == ("onnxruntime_onnx", 0)
        assert [(group.count, group.kind) for group in config.instance_group] == [
            (1, config.instance_group[0].KIND_GPU)
        ]
        assert [a.name for a in config.optimization.execution_accelerators.gpu_execution_accelerator] == ["tensorrt"]
        assert tensors(config.input) == list(stage.inputs)
        assert tensors(config.output) == list(stage.outputs)
        (warmup,) = config.model_warmup
        assert {name: tuple(entry.dims) for name, entry in warmup.inputs.items()} == {
            spec.name: spec.shape for spec in stage.inputs
        }


def test_by_sound_a_client_cannot_tell_the_ensembles_apart(gpu_build: Path, small_build: Path) -> None:
    """Prompts and frames as files, all of them optional, and what says that there were some, are the CPU's alone."""
    on_gpu, on_cpu = configs(gpu_build)["auralsam2"], configs(small_build)["auralsam2"]
    always = [entry for entry in on_cpu.input if not entry.optional or entry.name in CLIP]
    assert tensors(on_gpu.input) == tensors(always)
    assert tensors(on_gpu.output) == tensors(entry for entry in on_cpu.output if entry.name not in BESIDE_GRAPH)
    assert on_gpu.name == on_cpu.name


def test_the_ensemble_names_what_the_stages_have(gpu_build: Path) -> None:
    found = configs(gpu_build)
    for step in found["auralsam2"].ensemble_scheduling.step:
        stage = found[step.model_name]
        assert set(step.input_map) == {entry.name for entry in stage.input}
        assert set(step.output_map) <= {entry.name for entry in stage.output}
    hiera = found["auralsam2"].ensemble_scheduling.step[1]
    assert hiera.output_map[HANDED_ON] == HANDED_ON


def test_tokens_pass_through_the_graph_untouched(
    gpu_stages: tuple[Stage, ...],
    gpu_graphs: dict[str, Path],
    small_graphs: dict[str, Path],
    small_clip: dict[str, Any],
) -> None:
    """Whole clips at once, and the features are those of the CPU's graph, frame by frame."""
    stage = gpu_stages[STAGE_NAMES.index("hiera")]
    tokens = np.random.default_rng(0).standard_normal(stage.inputs[1].shape, dtype=np.float32)
    engine = load_engine("onnxruntime", gpu_graphs["hiera"])
    found = engine({"FRAMES": small_clip["FRAMES"], "AUDIO_TOKENS": tokens})
    np.testing.assert_array_equal(found[HANDED_ON], tokens)
    by_frame = load_engine("onnxruntime", small_graphs["hiera"])
    for t in range(SMALL.num_frames):
        for name, value in by_frame({"FRAMES": small_clip["FRAMES"][t : t + 1]}).items():
            np.testing.assert_allclose(found[name][t : t + 1], value, atol=1e-4 * np.abs(value).max())


def test_tensors_of_another_graph_are_found(gpu_stages: tuple[Stage, ...], gpu_settings: ExportSettings) -> None:
    hiera, fuser = gpu_stages[1], gpu_stages[2]
    check_stage(render_gpu(gpu_settings, hiera, "0" * 64), hiera)
    with pytest.raises(ExportError, match="lacks input"):
        check_stage(render_gpu(gpu_settings, hiera, "0" * 64), dataclasses.replace(fuser, name="hiera"))


def test_the_embedded_server_refuses_it_in_one_sentence(gpu_build: Path) -> None:
    with pytest.raises(ConfigError, match=r"exported for onnx-gpu: a GPU build needs .* --target cpu"):
        Launcher(ServerConfig(build=gpu_build)).start()


def test_the_cpu_s_ensemble_hands_tokens_on_under_their_own_name(small_build: Path) -> None:
    assert 'key: "AUDIO_TOKENS" value: "AUDIO_TOKENS_AFTER_HIERA"' in render(SMALL, "auralsam2")
