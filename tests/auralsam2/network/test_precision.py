"""Narrow types: what they cost beside autocast, what stays wide, and what is refused."""

import copy
from functools import cache

import pytest
import torch
from sam2.modeling.sam2_utils import LayerNorm2d
from torch import Tensor, nn

from auralsam2 import AuralSAM2, ClipOutput
from auralsam2.errors import NetworkError
from auralsam2.model.loading import load_aural_sam2
from auralsam2.model.parity_weights import parity_state
from auralsam2.network.log_mel import LogMel
from auralsam2.network.positions import pair_exchange, rotary_tables, rotate
from auralsam2.network.precision import WideNorm2d, to_precision
from auralsam2.prompted.prompts import FramePrompt

SIZE, NUM_FRAMES = 224, 3
NARROW = [torch.float16, torch.bfloat16]
each_narrow = pytest.mark.parametrize("dtype", NARROW, ids=str)


@cache
def network(trained: bool = False) -> AuralSAM2:
    """Plain, float32; copied by whoever changes it."""
    if trained:
        return load_aural_sam2("compact", SIZE)[0]
    made = AuralSAM2.from_preset("compact", SIZE)
    made.load_released(parity_state(made, 51))
    return made


def narrow_network(dtype: torch.dtype, trained: bool = False) -> AuralSAM2:
    return to_precision(copy.deepcopy(network(trained)).fuse(), dtype)


@cache
def clip() -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(3)
    return (
        torch.randn(NUM_FRAMES, 3, SIZE, SIZE, generator=draw),
        torch.randn(NUM_FRAMES, 2, 96, 64, generator=draw),
    )


@cache
def wide_answer(trained: bool) -> ClipOutput:
    found: ClipOutput = network(trained)(*clip())
    return found


def error(found: ClipOutput, trained: bool = False) -> float:
    """Relative RMS of the candidates' logits."""
    wanted = wide_answer(trained).low_res_logits
    return float((found.low_res_logits.float() - wanted).norm() / wanted.norm())


@each_narrow
def test_errors_are_at_most_twice_those_of_autocast(dtype: torch.dtype) -> None:
    """Autocast keeps weights, residual sums and norms in float32. Seen: 0.9 and 1.2 times it."""
    with torch.autocast("cpu", dtype):
        cast = network()(*clip())
    narrow = narrow_network(dtype)(*clip())
    assert 0 < error(narrow) < 2 * error(cast)
    for name in ("low_res_logits", "iou", "object_score", "object_pointer"):
        assert getattr(narrow, name).dtype == torch.float32


def test_float16_holds_trained_weights_that_autocast_loses() -> None:
    """Sums of the plain fusion pass the end of float16, fused they do not. The mask side in float32 makes it better."""
    with torch.autocast("cpu", torch.float16):
        assert not network(trained=True)(*clip()).low_res_logits.isfinite().all()
    narrow = narrow_network(torch.float16, trained=True)
    found = error(narrow(*clip()), trained=True)
    assert 0 < found < error(narrow_network(torch.bfloat16, trained=True)(*clip()), trained=True) / 4
    decoder = narrow.v_model.sam_mask_decoder
    for part in (decoder.output_upscaling, decoder.output_hypernetworks_mlps, narrow.v_model.memory_encoder):
        part.float()
    assert 0 < error(narrow(*clip()), trained=True) < found


def test_prompts_run_in_narrow_types() -> None:
    """A mask and a point that refines it; bfloat16 has three bits fewer than float16, and errs eight times as much."""
    mask = torch.zeros(SIZE // 4, SIZE // 4)
    mask[5:30, 7:40] = 1
    prompt = FramePrompt(1, torch.tensor([[90.0, 100.0]]), torch.tensor([1.0]), mask=mask)

    def answer(asked: AuralSAM2) -> Tensor:
        found = asked.track_prompts(asked.image_features(clip()[0]), [prompt])
        assert {value.dtype for value in found} == {torch.float32}
        return found.low_res_logits

    wanted = answer(network(trained=True))
    half, brain = (float((answer(narrow_network(dtype, trained=True)) - wanted).norm()) for dtype in NARROW)
    assert 0 < half < brain / 4 < wanted.norm() / 100


def test_float32_changes_nothing() -> None:
    module = copy.deepcopy(network())
    before = {key: (value.dtype, value.data_ptr()) for key, value in module.state_dict().items()}
    assert to_precision(module, torch.float32) is module
    assert {key: (value.dtype, value.data_ptr()) for key, value in module.state_dict().items()} == before


@each_narrow
def test_tables_and_sound_stay_in_float32(dtype: torch.dtype) -> None:
    made = narrow_network(dtype)
    positions = made.positions()
    assert (positions.cos.dtype, positions.sin.dtype) == (torch.float32, torch.float32)
    assert torch.equal(positions.cos, network().positions().cos)
    assert (positions.image.dtype, positions.memory.dtype) == (dtype, dtype)
    held = nn.ModuleList([LogMel(), nn.Linear(2, 2)])
    to_precision(held, dtype)
    assert {value.dtype for value in held[0].buffers()} == {torch.float32}
    assert {value.dtype for value in held[1].parameters()} == {dtype}
    assert made.v_model.image_encoder.trunk.pos_embed.dtype == torch.float32
    assert made.v_model.image_encoder.trunk.patch_embed.proj.weight.dtype == dtype


def test_variances_over_channels_do_not_overflow() -> None:
    """The squares of 300 pass the end of float16."""
    holder = nn.Sequential(LayerNorm2d(4)).half()
    values = torch.tensor([300.0, -300.0, 300.0, -300.0]).half()[None, :, None, None]
    assert not holder(values).abs().max() > 0.5
    to_precision(holder, torch.float16)
    assert isinstance(holder[0], WideNorm2d)
    torch.testing.assert_close(holder(values), (values / 300).half(), rtol=0, atol=1e-3)


@each_narrow
@pytest.mark.parametrize("by_product", [False, True])
def test_rotating_casts_back(dtype: torch.dtype, by_product: bool) -> None:
    x = torch.randn(9, 32, generator=torch.Generator().manual_seed(0))
    tables = rotary_tables(32, 3)
    exchange = pair_exchange(32) if by_product else None
    turned = rotate(x.to(dtype), *tables, exchange)
    assert turned.dtype == dtype
    torch.testing.assert_close(turned.float(), rotate(x, *tables), rtol=0, atol=8 * torch.finfo(dtype).eps)


def test_what_has_no_narrow_form_is_refused_and_left_as_it_is() -> None:
    module = copy.deepcopy(network())
    with pytest.raises(NetworkError, match=r"torch\.float64; a network runs in float32, float16, bfloat16"):
        to_precision(module, torch.float64)
    with pytest.raises(NetworkError, match=r"plain fusion.*Call fuse\(\) first"):
        to_precision(module, torch.float16)
    module.fuse()
    with torch.no_grad():
        module.v_model.no_mem_embed[0, 0, 0] = 1e5
    with pytest.raises(NetworkError, match=r"SegmentAnything\.no_mem_embed holds 1e\+05; float16 ends at 65504"):
        to_precision(module, torch.float16)
    assert {value.dtype for value in module.parameters()} == {torch.float32}
