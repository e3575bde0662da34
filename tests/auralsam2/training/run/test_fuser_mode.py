"""The fuser in training: dropout in its blocks alone, batch norms by clip that move as torch moves them."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from auralsam2 import AuralSAM2
from auralsam2.network.aural_fuser import AuralFuser
from auralsam2.network.pvt import Attention, Block, Mlp
from auralsam2.presets import preset
from auralsam2.training.run.fuser_mode import set_mode


@pytest.fixture
def fuser() -> AuralFuser:
    torch.manual_seed(0)
    return AuralFuser(preset("compact"), 224, text=False, form="released").eval()


def features(fuser: AuralFuser, seed: int) -> Tensor:
    patches = tuple(torch.randn(3, 128, 14, 14, generator=torch.Generator().manual_seed(k)) for k in range(3))
    tokens = torch.randn(3, 128, generator=torch.Generator().manual_seed(9))
    torch.manual_seed(seed)
    out: Tensor = fuser(patches, tokens).visual[2]
    return out


def test_the_projects_mode_is_evaluation(fuser: AuralFuser) -> None:
    before = features(fuser, 1)
    set_mode(fuser, 0.0, "running")
    assert not any(module.training for module in fuser.modules())
    assert torch.equal(features(fuser, 2), before)


def test_dropout_draws_anew_each_time_and_can_be_switched_off(fuser: AuralFuser) -> None:
    still = features(fuser, 1)
    set_mode(fuser, 0.1, "running")
    assert not torch.equal(features(fuser, 1), still)
    assert torch.equal(features(fuser, 1), features(fuser, 1))
    assert not torch.equal(features(fuser, 1), features(fuser, 2))
    set_mode(fuser, 0.0, "running")
    assert torch.equal(features(fuser, 1), still)


@pytest.mark.parametrize("side", [4, None])
def test_a_block_drops_in_four_places(side: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    block = Block(8, 2)
    for part in (block.attn, block.mlp):
        part.dropout = 0.1
    dropped: list[tuple[int, float]] = []
    inside: list[float] = []
    attention = F.scaled_dot_product_attention
    monkeypatch.setattr(F, "dropout", lambda x, p: dropped.append((x.shape[-1], p)) or x)
    monkeypatch.setattr(
        F, "scaled_dot_product_attention", lambda q, k, v, dropout_p: inside.append(dropout_p) or attention(q, k, v)
    )
    block(torch.randn(1, 16, 8), side)
    assert inside == [0.1]
    assert dropped == [(8, 0.1), (32, 0.1), (8, 0.1)], "behind the attention, in the MLP and behind it"
    block.eval()
    block(torch.randn(1, 16, 8), side)
    assert inside == [0.1, 0.0]
    assert len(dropped) == 3


def test_batch_norms_normalise_by_the_clip_and_move_as_torch_moves_them(fuser: AuralFuser) -> None:
    norm = fuser.fusion_modules[1].get_submodule("W_z2.1")
    assert isinstance(norm, nn.BatchNorm1d)
    seen: list[tuple[Tensor, Tensor]] = []
    norm.register_forward_hook(lambda module, inputs, output: seen.append((inputs[0].detach(), output.detach())))
    set_mode(fuser, 0.0, "clip")
    features(fuser, 1)
    ((given, out),) = seen
    mean, var = given.mean((0, 2)), given.var((0, 2), correction=0)
    wanted = (given - mean[:, None]) / (var[:, None] + norm.eps).sqrt()
    torch.testing.assert_close(out, wanted * norm.weight.detach()[:, None] + norm.bias.detach()[:, None])
    torch.testing.assert_close(norm.running_mean, 0.1 * mean)
    torch.testing.assert_close(norm.running_var, 0.9 + 0.1 * given.var((0, 2), correction=1))


def test_sam2_stays_in_evaluation_mode_and_vggish_has_no_mode_to_change() -> None:
    model = AuralSAM2.from_preset("compact", 224)
    set_mode(model.aural_fuser, 0.1, "clip")
    assert not any(module.training for module in model.v_model.modules())
    assert not any(isinstance(m, nn.Dropout | nn.modules.batchnorm._BatchNorm) for m in model.aural_fuser.vgg.modules())
    parts = [m for m in model.aural_fuser.modules() if isinstance(m, Attention | Mlp)]
    assert parts
    assert all(part.training and part.dropout == 0.1 for part in parts)
