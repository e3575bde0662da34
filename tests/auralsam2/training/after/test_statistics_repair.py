"""Lost batch norm statistics come back from the data, stage after stage, and nothing else changes."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from auralsam2 import AuralSAM2
from auralsam2.errors import CheckpointError, TrainingError
from auralsam2.network.image_encoder import normalise
from auralsam2.network.log_mel import LogMel
from auralsam2.training.after import statistics_repair
from auralsam2.training.after.statistics_repair import broken_layers, repair
from auralsam2.training.examples.clips import Source, procedural

SIZE, CLIPS = 224, 2
EPSILON = 1e-5  # torch's own, of a batch norm
FIRST, LAST = "aural_fuser.fusion_modules.0.W_z.1", "aural_fuser.fusion_modules.2.W_z2.1"


@pytest.fixture(scope="module")
def source() -> Source:
    return procedural(3, SIZE)


@pytest.fixture(scope="module")
def whole() -> dict[str, Tensor]:
    torch.manual_seed(0)
    state = AuralSAM2.from_preset("compact", SIZE).state_dict()
    # Untrained, the fusion multiplies what it reads with nearly nothing; let a later stage see an earlier one.
    for layer in (FIRST, LAST):
        state[f"{layer}.weight"] = torch.full_like(state[f"{layer}.weight"], 0.5)
    return state


@pytest.fixture
def damaged(whole: dict[str, Tensor]) -> dict[str, Tensor]:
    state = {key: value.clone() for key, value in whole.items()}
    state[f"{FIRST}.running_var"][:100] = torch.inf
    state[f"{LAST}.running_var"][5:] = torch.inf
    return state


def passed(model: AuralSAM2, layer: str, source: Source) -> Tensor:
    """All that `layer` hands on over the clips, [values, C]."""
    seen: list[Tensor] = []
    norm = model.get_submodule(layer)
    hook = norm.register_forward_hook(lambda module, inputs, out: seen.append(out.transpose(0, 1).flatten(1)))
    log_mel = LogMel()
    with torch.no_grad():
        for number in range(CLIPS):
            example = source(number, 5)
            model(normalise(torch.from_numpy(example.frames)), log_mel(torch.from_numpy(example.windows)))
    hook.remove()
    return torch.cat(seen, 1).T


def test_after_it_each_layer_hands_on_what_a_batch_norm_should(damaged: dict[str, Tensor], source: Source) -> None:
    model = AuralSAM2.from_preset("compact", SIZE)
    mended = repair(damaged, model, source, CLIPS)
    for layer in (FIRST, LAST):
        variance = mended[f"{layer}.running_var"]
        assert variance.dtype == torch.float32
        out = passed(model, layer, source)
        # The last layer reads what the first gives: measured before the first was mended, this would not hold.
        torch.testing.assert_close(out.mean(0), torch.zeros(128), rtol=0, atol=1e-3)
        wanted = 0.5 * (variance / (variance + EPSILON)).sqrt()
        torch.testing.assert_close(out.std(0, correction=0), wanted, rtol=1e-3, atol=0)


def test_all_else_stays_as_it_was(damaged: dict[str, Tensor], source: Source) -> None:
    before = {key: value.clone() for key, value in damaged.items()}
    mended = repair(damaged, AuralSAM2.from_preset("compact", SIZE), source, CLIPS)
    changed = {key for key in before if not torch.equal(mended[key], before[key])}
    assert changed == {f"{layer}.{name}" for layer in (FIRST, LAST) for name in ("running_mean", "running_var")}
    assert all(torch.equal(damaged[key], value) for key, value in before.items())


def test_whole_weights_are_left_alone(whole: dict[str, Tensor]) -> None:
    def nothing(number: int, num_frames: int) -> object:
        raise AssertionError("no clip is needed")

    mended = repair(whole, AuralSAM2.from_preset("compact", SIZE), nothing, CLIPS)  # type: ignore[arg-type]
    assert mended == whole


@pytest.mark.parametrize(
    "key", ["aural_fuser.smooth_convs.0.weight", f"{FIRST}.weight", "aural_fuser.train_proj_v1.proj.1.running_var"]
)
def test_what_data_cannot_bring_back_is_named(whole: dict[str, Tensor], key: str) -> None:
    state = {**whole, key: torch.full_like(whole[key], torch.nan)}
    with pytest.raises(CheckpointError, match=rf"{key}: \d+ of \d+ values are not finite"):
        broken_layers(state)


def test_no_clip_no_statistics(damaged: dict[str, Tensor], source: Source) -> None:
    with pytest.raises(TrainingError, match="needs two"):
        repair(damaged, AuralSAM2.from_preset("compact", SIZE), source, 0)


def test_the_command_reads_a_broken_file_and_writes_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    state = {key: value.half() for key, value in AuralSAM2.from_preset("compact").state_dict().items()}
    state[f"{LAST}.running_var"][7] = torch.inf
    save_file(state, tmp_path / "broken.safetensors", metadata={"preset": "compact"})
    given = ["--checkpoint", str(tmp_path / "broken.safetensors"), "--out", str(tmp_path / "whole.safetensors")]
    monkeypatch.setattr("sys.argv", ["statistics_repair", *given, "--clips", "1"])
    statistics_repair.main()
    assert f"{LAST}: 1 of 128 channels" in capsys.readouterr().out
    stored = load_file(tmp_path / "whole.safetensors")
    assert all(value.isfinite().all() for value in stored.values())
    with safe_open(tmp_path / "whole.safetensors", "pt") as file:
        assert file.metadata() == {"preset": "compact", "statistics_from_clips": "1"}
