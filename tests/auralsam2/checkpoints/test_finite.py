"""Values that are not finite are refused with their keys: when a file is read, and when weights are loaded."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from auralsam2 import AuralSAM2, checkpoints
from auralsam2.errors import CheckpointError
from auralsam2.model.loading import load_network
from tests.auralsam2.checkpoints.forms import FUSER, State, fuser_alone, in_lists

VARIANCE = "aural_fuser.fusion_modules.0.W_z.1.running_var"


def broken(state: State) -> State:
    """With five infinite variances and a bias that is no number."""
    variance, bias = state[VARIANCE].clone(), state["v_model.mask_downsample.bias"].clone()
    variance[3:7], variance[9], bias[0] = torch.inf, -torch.inf, torch.nan
    return state | {VARIANCE: variance, "v_model.mask_downsample.bias": bias}


BROKEN = (
    rf"{VARIANCE}: 5 of 128 values are not finite \(5 Inf\);"
    r" v_model\.mask_downsample\.bias: 1 of 1 values are not finite \(1 NaN\)\. Fetch the file again"
)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_a_file_with_values_that_are_not_finite(filled: State, tmp_path: Path, suffix: str, dtype: torch.dtype) -> None:
    path = tmp_path / f"broken{suffix}"
    names = (VARIANCE, "v_model.mask_downsample.bias", "v_model.no_mem_embed")
    state = {key: broken(filled)[key].to(dtype) for key in names} | {"count": torch.tensor(7)}
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    with pytest.raises(CheckpointError, match=rf"^broken{suffix}: {BROKEN}"):
        checkpoints.read(str(path))


def test_values_that_are_not_finite_are_not_loaded(model: AuralSAM2, filled: State) -> None:
    with pytest.raises(CheckpointError, match=rf"^the checkpoint \(whole network, preset compact\): {BROKEN}"):
        model.load_released(broken(filled))
    short = VARIANCE.removeprefix(FUSER)
    with pytest.raises(CheckpointError, match=rf"fuser alone, preset compact\): {short}: 5 of 128 values"):
        model.load_released(fuser_alone(broken(filled)))
    with pytest.raises(CheckpointError, match=rf"whole network, preset compact\): {BROKEN}"):
        model.load_released(in_lists(broken(filled)))
    sam2_s = {k.removeprefix("v_model."): v for k, v in broken(filled).items() if k.startswith("v_model.")}
    with pytest.raises(CheckpointError, match=r"SAM2 checkpoint .*: mask_downsample\.bias: 1 of 1 values"):
        checkpoints.load_sam2(model, sam2_s)
    vggish = {k: torch.full_like(v, torch.inf) for k, v in model.aural_fuser.vgg.state_dict().items()}
    with pytest.raises(
        CheckpointError, match=r"VGGish checkpoint: .*16 of 16 values are not finite \(16 Inf\).* more\."
    ):
        checkpoints.load_vggish(model, vggish)
    with pytest.raises(CheckpointError, match=rf"^the state: {BROKEN}"):
        checkpoints.load_strictly(model, broken(filled), "the state")
    assert all(not value.any() for value in model.state_dict().values())


def test_evaluating_refuses_values_that_are_not_finite(filled: State, tmp_path: Path) -> None:
    save_file(broken(filled), tmp_path / "broken.safetensors")
    with pytest.raises(CheckpointError, match=rf"^broken\.safetensors: {BROKEN}"):
        load_network("compact", checkpoint=str(tmp_path / "broken.safetensors"))


@pytest.mark.parametrize("value", [torch.finfo(torch.float32).max, -torch.finfo(torch.float32).max, 1e-45, 0.0])
def test_the_ends_of_the_type_are_finite(value: float) -> None:
    checkpoints.check_finite({"a": torch.tensor([value]), "none": torch.empty(0), "n": torch.tensor([True])}, "it")


def test_one_byte_floats_are_read_too() -> None:
    checkpoints.check_finite({"a": torch.ones(3).to(torch.float8_e4m3fn)}, "it")
    with pytest.raises(CheckpointError, match="it: a: 1 of 3 values are not finite"):
        checkpoints.check_finite({"a": torch.tensor([1.0, torch.inf, 2.0]).to(torch.float8_e5m2)}, "it")
