"""AudioCon over a whole clip: figures by hand, what is drawn, and whose heads and frames take part."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from auralsam2.network.aural_fuser import AuralFeatures, AuralFuser
from auralsam2.presets import preset
from auralsam2.training.losses import clip_contrast
from auralsam2.training.losses.clip_contrast import ClipContrast, clip_info_nce, draw_balanced, draw_released, project
from auralsam2.training.settings import ContrastSampling


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_the_loss_by_hand() -> None:
    torch.manual_seed(1)
    anchors, sounds = (F.normalize(torch.randn(n, 5), dim=1) for n in (7, 4))
    inside = torch.tensor([True, False, False, True, False, True, False])
    sounding = torch.tensor([True, True, False, True])
    wanted = 0.0
    for anchor, label in zip(anchors, inside.tolist(), strict=True):
        others = [*anchors[inside != label], *sounds[sounding != label]]
        far = sum(math.exp(float(anchor @ other) / 0.1) for other in others)
        near = [math.exp(float(anchor @ sound) / 0.1) for sound in sounds[sounding == label]]
        wanted += -sum(math.log(n / (n + far)) for n in near) / len(near)
    assert clip_info_nce(anchors, inside, sounds, sounding).item() == pytest.approx(wanted / 7, rel=1e-4)


def test_pixels_outside_count_nothing_where_every_frame_sounds() -> None:
    torch.manual_seed(1)
    anchors, sounds = (F.normalize(torch.randn(n, 5), dim=1) for n in (6, 3))
    inside = torch.tensor([True, True, False, False, False, False])
    heard = torch.ones(3, dtype=torch.bool)
    both = clip_info_nce(anchors, inside, sounds, heard)
    far = torch.logsumexp(anchors[:2] @ anchors[2:].T / 0.1, 1, keepdim=True)
    own = F.softplus(far - anchors[:2] @ sounds.T / 0.1).mean(1).sum()
    assert both.item() == pytest.approx(own.item() / 6, rel=1e-5)
    assert clip_info_nce(anchors, torch.ones(6, dtype=torch.bool), sounds, heard).item() == 0


@pytest.mark.parametrize(("inside", "wanted"), [(30, 30), (300, 300), (500, 384), (1500, 384)])
def test_as_released_up_to_three_times_the_limit_of_a_side_is_drawn(inside: int, wanted: int) -> None:
    mask = torch.zeros(2048, dtype=torch.bool)
    mask[-inside:] = True
    pixels, labels = draw_released(mask, 128, generator())
    assert len(set(pixels.tolist())) == len(pixels) == len(labels)
    assert int(mask[pixels].sum()) == wanted
    assert int((~mask[pixels]).sum()) == min(2048 - inside, 384)


def test_as_released_a_label_is_read_at_the_draws_own_number() -> None:
    mask = torch.zeros(64, dtype=torch.bool)
    mask[32:] = True
    pixels, labels = draw_released(mask, 128, generator())
    # The sides have 32 pixels each, and the pixels of these numbers, 0 to 31, all lie outside.
    assert int(mask[pixels].sum()) == 32
    assert not labels.any()


def test_as_the_paper_says_half_is_inside_and_each_pixel_has_its_label() -> None:
    mask = torch.zeros(4096, dtype=torch.bool)
    mask[:1000] = True
    missed = torch.arange(4096) % 2 == 0
    pixels, labels = draw_balanced(mask, missed, 512, generator())
    assert torch.equal(labels, mask[pixels])
    for side in (True, False):
        for kind in (True, False):
            assert int(((mask == side) & (missed == kind))[pixels].sum()) == 128


@pytest.fixture
def fuser() -> AuralFuser:
    torch.manual_seed(0)
    return AuralFuser(preset("compact"), 224, text=False, form="released")


def clip() -> tuple[AuralFeatures, Tensor, Tensor]:
    """Three frames, the last of them silent."""
    torch.manual_seed(0)
    visual = [torch.randn(3, 128, 14, 14, requires_grad=True) for _ in range(3)]
    audio = [torch.randn(3, 128, requires_grad=True) for _ in range(3)]
    masks = torch.zeros(3, 56, 56)
    masks[0, :20] = 1
    masks[1, :, 30:] = 1
    return AuralFeatures(tuple(visual), tuple(audio)), torch.randn(3, 56, 56), masks  # type: ignore[arg-type]


@pytest.mark.parametrize("sampling", ["released", "balanced"])
def test_all_frames_are_compared_through_the_fusers_own_heads(fuser: AuralFuser, sampling: ContrastSampling) -> None:
    loss = ClipContrast(fuser, 128, sampling)
    assert not list(loss.parameters()), "the heads are counted once, in the fuser"
    aural, logits, masks = clip()
    loss(aural, logits, masks, generator()).backward()
    for head in (fuser.train_proj_v1, fuser.train_proj_a1):
        assert all(p.grad is not None for p in head.parameters())
        assert next(head.parameters()).grad.abs().sum() > 0  # type: ignore[union-attr]
    for visual, audio in zip(aural.visual, aural.audio, strict=True):
        assert (visual.grad.abs().sum((1, 2, 3)) > 0).all()  # type: ignore[union-attr]
        assert (audio.grad.abs().sum(1) > 0).all()  # type: ignore[union-attr]


def test_of_frames_without_label_nothing_is_drawn(fuser: AuralFuser) -> None:
    fuser.eval()  # by batch statistics the heads' batch norms tie all frames together
    aural, logits, masks = clip()
    first = torch.tensor([True, False, False])
    loss = ClipContrast(fuser, 128, "balanced")
    value = loss(aural, logits, masks, generator(), first)
    value.backward()
    for visual in aural.visual:
        assert visual.grad[0].abs().sum() > 0  # type: ignore[index]
        assert visual.grad[1:].abs().sum() == 0  # type: ignore[index]
    other = masks.clone()
    other[1:] = 1 - other[1:]
    assert loss(aural, logits, other, generator(), first).item() == value.item()


def test_a_silent_clip_costs_nothing(fuser: AuralFuser) -> None:
    aural, logits, masks = clip()
    assert ClipContrast(fuser, 128, "released")(aural, logits, 0 * masks, generator()).item() == 0


def test_a_long_clip_is_cut_at_a_random_place(fuser: AuralFuser, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def counting(anchors: Tensor, *others: Tensor) -> Tensor:
        seen.append(len(anchors))
        return anchors.sum()

    monkeypatch.setattr(clip_contrast, "clip_info_nce", counting)
    aural, logits, masks = clip()
    loss = ClipContrast(fuser, 128, "released")
    loss(aural, logits, masks, generator())
    assert seen == [3 * 3 * 196]
    monkeypatch.setattr(clip_contrast, "MAX_ANCHORS", 3 * 3 * 196 - 1)
    for seed in range(5):
        loss(aural, logits, masks, torch.Generator().manual_seed(seed))
    assert len(set(seen[1:])) > 1
    assert all(1 <= count < 3 * 3 * 196 for count in seen[1:])


class Head(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.proj = nn.Sequential(*layers)


def test_heads_of_both_kinds_project_row_by_row() -> None:
    torch.manual_seed(0)
    rows = torch.randn(2, 9, 6)
    linear = Head(nn.Linear(6, 4), nn.GELU(), nn.LayerNorm(4), nn.Linear(4, 4))
    torch.testing.assert_close(project(linear, rows), F.normalize(linear.proj(rows), dim=-1))
    for convolution, norm, shape in (
        (nn.Conv1d, nn.BatchNorm1d, (18, 6, 1)),
        (nn.Conv2d, nn.BatchNorm2d, (18, 6, 1, 1)),
    ):
        head = Head(convolution(6, 4, 1), norm(4), convolution(4, 4, 1))
        wanted = F.normalize(head.proj(rows.reshape(shape)).flatten(1), dim=1).view(2, 9, 4)
        torch.testing.assert_close(project(head, rows), wanted)
