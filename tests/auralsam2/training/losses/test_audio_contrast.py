"""AudioCon: figures by hand, the choice of samples, and what it pulls together."""

import math

import pytest
import torch

from auralsam2.network.aural_fuser import AuralFeatures
from auralsam2.training.losses.audio_contrast import EMBEDDING_WIDTH, MAX_SAMPLES, AudioContrast, choose, info_nce


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_info_nce_by_hand() -> None:
    anchor = torch.tensor([[1.0, 0.0]])
    positives = torch.tensor([[0.6, 0.8], [1.0, 0.0]])
    negatives = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
    far = math.exp(0 / 0.1) + math.exp(-1 / 0.1)
    wanted = [-math.log(math.exp(s / 0.1) / (math.exp(s / 0.1) + far)) for s in (0.6, 1.0)]
    assert info_nce(anchor, positives, negatives).item() == pytest.approx(sum(wanted) / 2, rel=1e-4)


@pytest.mark.parametrize(
    ("hard", "easy", "limit", "wanted"),
    [
        (300, 300, 256, (128, 128)),
        (10, 300, 256, (10, 246)),
        (300, 10, 256, (246, 10)),
        (10, 20, 256, (10, 20)),
        (0, 300, 256, (0, 256)),
        (0, 0, 256, (0, 0)),
    ],
)
def test_hard_and_easy_are_chosen_one_to_one_and_fill_up_for_each_other(
    hard: int, easy: int, limit: int, wanted: tuple[int, int]
) -> None:
    pools = torch.zeros(2, 700, dtype=torch.bool)
    pools[0, :hard] = True
    pools[1, hard : hard + easy] = True
    chosen = choose(pools[0], pools[1], limit, generator())
    assert len(set(chosen.tolist())) == len(chosen)
    assert (int(pools[0][chosen].sum()), int(pools[1][chosen].sum())) == wanted


def clip(side: int = 16) -> tuple[AuralFeatures, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    visual = [torch.randn(2, 8, side, side, requires_grad=True) for _ in range(3)]
    audio = [torch.randn(2, 8, requires_grad=True) for _ in range(3)]
    masks = torch.zeros(2, 64, 64)
    masks[0, :32] = 1
    return AuralFeatures(tuple(visual), tuple(audio)), torch.zeros(2, 16, 16), masks  # type: ignore[arg-type]


def test_only_frames_with_sounding_and_other_pixels_take_part() -> None:
    aural, logits, masks = clip()
    AudioContrast(8)(aural, logits, masks, generator()).backward()
    for visual, audio in zip(aural.visual, aural.audio, strict=True):
        assert visual.grad is not None
        assert audio.grad is not None
        assert visual.grad[0].abs().sum() > 0
        assert visual.grad[1].abs().sum() == 0
        assert audio.grad[0].abs().sum() > 0
        assert audio.grad[1].abs().sum() == 0


def test_a_silent_clip_costs_nothing() -> None:
    aural, logits, masks = clip()
    assert AudioContrast(8)(aural, logits, torch.zeros_like(masks), generator()).item() == 0


def test_no_more_samples_than_allowed_at_each_scale() -> None:
    aural, logits, masks = clip(side=48)  # 2304 pixels a scale
    loss = AudioContrast(8)
    seen: list[int] = []
    inner = info_nce

    def counting(anchors: torch.Tensor, positives: torch.Tensor, negatives: torch.Tensor) -> torch.Tensor:
        seen.append(len(anchors) + len(negatives))
        return inner(anchors, positives, negatives)

    import auralsam2.training.losses.audio_contrast as module

    module.info_nce = counting
    try:
        loss(aural, logits, masks, generator())
    finally:
        module.info_nce = inner
    assert max(seen) == 3 * MAX_SAMPLES, "visual anchors and negatives of three scales"


def test_the_heads_are_three_layers_to_64() -> None:
    loss = AudioContrast(8)
    for head in (loss.visual_head, loss.audio_head):
        assert [m.out_features for m in head if isinstance(m, torch.nn.Linear)] == [8, 8, EMBEDDING_WIDTH]
    assert EMBEDDING_WIDTH == 64


def test_descending_it_brings_sound_to_the_pixels_that_sound() -> None:
    aural, logits, masks = clip()
    loss = AudioContrast(8)
    learning = [*loss.parameters(), *aural.visual, *aural.audio]
    optimiser = torch.optim.Adam(learning, 0.02)
    first = None
    for _ in range(40):
        value = loss(aural, logits, masks, generator())
        first = value.item() if first is None else first
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
    assert first is not None
    assert value.item() < 0.2 * first
    with torch.no_grad():
        pixels = torch.nn.functional.normalize(loss.visual_head(aural.visual[0][0].flatten(1).T), dim=-1)
        sound = torch.nn.functional.normalize(loss.audio_head(aural.audio[0][0]), dim=-1)
        inside = torch.nn.functional.interpolate(masks[None, :1], size=(16, 16))[0, 0].flatten() > 0
    likeness = pixels @ sound
    assert likeness[inside].mean() > likeness[~inside].mean() + 0.5
