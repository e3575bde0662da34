"""The server's pools, computed from configurations that the export writes."""

import math
from pathlib import Path

import pytest

from auralsam2 import AuralSAM2
from auralsam2.stages.clip_stages import build_stages
from auralsam2_client.contract import STAGE_NAMES
from auralsam2_client.errors import ConfigError
from export.builds.triton_config import parse, render, render_gpu, tensors
from export.loading import load_model
from export.settings import ExportSettings
from service.builds import gpu_memory
from service.builds.gpu_memory import POOL_STEP_BYTES, GpuMemory, plan_memory, read_configs
from service.builds.gpus import Gpu
from tests.service.toy import build_folder as toy

MIB = 1 << 20
BYTES = {"FP32": 4, "UINT8": 1}


def write_models(models: Path, texts: dict[str, str]) -> dict[str, int]:
    """Configurations as files; returns the bytes of a clip's tensors by model, counted by the export's own reader."""
    counted = {}
    for name, text in texts.items():
        (models / name / "1").mkdir(parents=True)
        (models / name / "config.pbtxt").write_text(text)
        config = parse(text)
        specs = [*tensors(config.input), *tensors(config.output)]
        counted[name] = sum(math.prod(spec.shape) * BYTES[spec.dtype] for spec in specs)
    return counted


@pytest.mark.parametrize("target", ["onnx-gpu", "tensorrt"])
def test_the_configurations_of_a_gpu_build(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, target: str) -> None:
    settings = ExportSettings(preset="compact", image_size=224, num_frames=2, target=target)
    stages = build_stages(load_model(settings), 2, 0, settings.read_out, 2, hands_on_tokens=True)
    texts = {stage.name: render_gpu(settings, stage, "0" * 64) for stage in stages}
    counted = write_models(tmp_path, {**texts, "auralsam2": render(settings, "auralsam2")})
    monkeypatch.setattr(gpu_memory, "POOL_STEP_BYTES", 1)
    memory = plan_memory(tmp_path)
    assert memory.cuda_pool_bytes == 2 * sum(counted[stage.name] for stage in stages)
    assert memory.pinned_pool_bytes == 2 * counted["auralsam2"]


def test_the_pool_of_a_large_preset_holds_two_clips(tmp_path: Path) -> None:
    settings = ExportSettings(preset="hiera_base_plus", target="tensorrt")
    model = AuralSAM2.from_preset(settings.preset, settings.size)
    stages = build_stages(model, settings.num_frames, 0, settings.read_out, settings.num_frames, hands_on_tokens=True)
    texts = {stage.name: render_gpu(settings, stage, "0" * 64) for stage in stages}
    counted = write_models(tmp_path, {**texts, "auralsam2": render(settings, "auralsam2")})
    (tmp_path / "hiera" / "1" / "model.plan").write_bytes(b"x" * 1000)
    memory = plan_memory(tmp_path)
    clip = sum(counted[name] for name in STAGE_NAMES)
    # The map at stride 4 alone (T = 5, 32 channels, 256 x 256) is 42 MB, and it is written once and read once.
    assert clip > 2 * 5 * 32 * 256 * 256 * 4
    assert memory.cuda_pool_bytes % POOL_STEP_BYTES == 0
    assert 0 <= memory.cuda_pool_bytes - 2 * clip < POOL_STEP_BYTES
    # More than the server's default, which would overflow without a word.
    assert memory.cuda_pool_bytes > 64 * MIB
    assert 0 <= memory.pinned_pool_bytes - 2 * counted["auralsam2"] < POOL_STEP_BYTES
    assert memory.weights_bytes == 1000


def test_the_toy_s_tensors_counted_by_hand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    toy.write(tmp_path / "build")
    vggish = tmp_path / "build" / "models" / "vggish" / "config.pbtxt"
    vggish.write_text(vggish.read_text().replace("max_batch_size: 0", "max_batch_size: 3"))
    tokens, audio, frames = 2 * 256 * 4, 2 * 15600 * 2 * 4, 2 * 32 * 32 * 3
    map_4, candidates, scores = 2 * 8 * 8 * 4, 2 * 3 * 8 * 8 * 4, (2 * 3 + 2) * 4
    answers = map_4 + candidates + scores
    hiera = frames + map_4 + 2 * tokens
    fuser = 2 * (map_4 + tokens)
    decoder = map_4 + tokens + answers
    # Without rounding, so that no tensor is small enough to be forgotten.
    monkeypatch.setattr(gpu_memory, "POOL_STEP_BYTES", 1)
    memory = plan_memory(tmp_path / "build" / "models")
    assert memory.cuda_pool_bytes == 2 * (3 * (audio + tokens) + hiera + fuser + decoder)
    assert memory.pinned_pool_bytes == 2 * (frames + audio + answers)


def test_a_small_build_gets_the_least_pool(tmp_path: Path) -> None:
    toy.write(tmp_path / "build")
    memory = plan_memory(tmp_path / "build" / "models")
    assert (memory.cuda_pool_bytes, memory.pinned_pool_bytes) == (64 * MIB, 64 * MIB)
    assert memory.weights_bytes == sum(path.stat().st_size for path in (tmp_path / "build").rglob("model.py"))


def test_one_flag_for_each_card() -> None:
    memory = GpuMemory(cuda_pool_bytes=448 * MIB, pinned_pool_bytes=128 * MIB, weights_bytes=MIB)
    cards = (Gpu(0, "NVIDIA L4", 89, 24 << 30), Gpu(1, "NVIDIA GB10", 121, None))
    assert memory.flags(cards) == [
        "--cuda-memory-pool-byte-size=0:469762048",
        "--cuda-memory-pool-byte-size=1:469762048",
        "--pinned-memory-pool-byte-size=134217728",
    ]


def test_a_small_card_is_refused_with_both_figures() -> None:
    memory = GpuMemory(cuda_pool_bytes=448 * MIB, pinned_pool_bytes=64 * MIB, weights_bytes=600 * MIB)
    just_enough = Gpu(0, "NVIDIA T4", 75, 1048 * MIB)
    assert len(memory.flags((just_enough,))) == 2
    with pytest.raises(ConfigError, match=r"GPU 1, NVIDIA T4, has 1047 MiB, and at least 1048 MiB are needed: 448 MiB"):
        memory.flags((just_enough, Gpu(1, "NVIDIA T4", 75, 1047 * MIB)))


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("dims: [2, 256]", "dims: [-1, 256]", r"vggish/config\.pbtxt: AUDIO_TOKENS is FP32 \[-1, 256\].*fixed size"),
        ("TYPE_FP32 dims: [2, 256]", "TYPE_STRING dims: [2, 256]", r"AUDIO_TOKENS is STRING"),
        ('name: "vggish"', "name vggish", r"vggish/config\.pbtxt cannot be read"),
    ],
)
def test_a_configuration_that_says_no_size_is_named(tmp_path: Path, before: str, after: str, words: str) -> None:
    toy.write(tmp_path / "build")
    path = tmp_path / "build" / "models" / "vggish" / "config.pbtxt"
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, after))
    with pytest.raises(ConfigError, match=words):
        plan_memory(tmp_path / "build" / "models")


def test_every_model_is_read(tmp_path: Path) -> None:
    toy.write(tmp_path / "build")
    configs = read_configs(tmp_path / "build" / "models")
    assert set(configs) == {*toy.STAGES, "auralsam2"}
    assert configs["auralsam2"].platform == "ensemble"
