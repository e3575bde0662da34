"""What the network may be built as, what it accepts, what it answers."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from auralsam2 import PRESETS, AuralSAM2, ClipOutput
from auralsam2.errors import NetworkError
from auralsam2.presets import IMAGE_SIZES, check_image_size

MAX_COMPACT_PARAMETERS = 12_000_000


@pytest.fixture(scope="module")
def compact(well_scaled: Callable[[nn.Module, int], nn.Module]) -> nn.Module:
    return well_scaled(AuralSAM2.from_preset("compact", 224, text=True), 0)


def clip(num_frames: int, size: int = 224, seed: int = 0) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(num_frames, 3, size, size, generator=draw), torch.randn(num_frames, 2, 96, 64, generator=draw)


def test_preset_names() -> None:
    assert list(PRESETS) == ["hiera_tiny", "hiera_small", "hiera_base_plus", "hiera_large", "compact"]
    assert all(preset.name == name for name, preset in PRESETS.items())


def test_compact_is_compact() -> None:
    model = AuralSAM2.from_preset("compact")
    assert model.image_size == 256
    assert sum(p.numel() for p in model.parameters()) <= MAX_COMPACT_PARAMETERS
    assert not model.training


@pytest.mark.parametrize("size", [224, 256, 512, 1024])
def test_image_sizes(size: int) -> None:
    assert size in IMAGE_SIZES
    assert AuralSAM2.from_preset("compact", size).aural_fuser.side == size // 16


@pytest.mark.parametrize("size", [-1, 0, 225, 384, 2048])
def test_other_image_sizes(size: int) -> None:
    message = f"image_size {size} px is not supported; choose one of 1024, 512, 256, 224"
    with pytest.raises(NetworkError, match=message):
        check_image_size(size)
    with pytest.raises(NetworkError, match=message):
        AuralSAM2.from_preset("compact", size)


def test_hiera_large_has_the_released_keys(released_shapes: dict[str, dict[str, tuple[int, ...]]]) -> None:
    """The one published size without golden figures. Values are never made: the initialisers are switched off."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("kaiming_uniform_", "uniform_", "xavier_uniform_", "normal_", "trunc_normal_"):
            patch.setattr(nn.init, name, lambda tensor, *_args, **_kwargs: tensor)
        model = AuralSAM2.from_preset("hiera_large", 256)
    assert {k: tuple(v.shape) for k, v in model.state_dict().items()} == released_shapes["hiera_large"]


def test_unknown_names() -> None:
    with pytest.raises(NetworkError, match="preset 'hiera_huge' is unknown; choose one of hiera_tiny, hiera_small"):
        AuralSAM2.from_preset("hiera_huge")
    with pytest.raises(NetworkError, match="fusion form 'both' is unknown; choose one of released, paper"):
        AuralSAM2.from_preset("compact", fusion="both")  # type: ignore[arg-type]


@pytest.mark.parametrize("num_frames", [1, 3])
def test_shapes_of_an_answer(compact: AuralSAM2, num_frames: int) -> None:
    out = compact(*clip(num_frames), conditioning_frame=num_frames // 2)
    assert out.low_res_logits.shape == (num_frames, 3, 56, 56)
    assert out.iou.shape == (num_frames, 3)
    assert out.object_score.shape == (num_frames, 1)
    assert out.object_pointer.shape == (num_frames, compact.preset.width)
    assert out.low_res_logits.isfinite().all()
    assert ((out.iou >= 0) & (out.iou <= 1)).all()
    assert out.select().shape == (num_frames, 56, 56)


def test_sound_and_words_are_heard(compact: AuralSAM2) -> None:
    frames, log_mel = clip(2)
    words = torch.randn(1, 25, 128, generator=torch.Generator().manual_seed(1))
    heard = compact(frames, log_mel, words).low_res_logits
    assert (compact(frames, torch.zeros_like(log_mel), words).low_res_logits - heard).abs().mean() > 1e-3
    assert (compact(frames, log_mel).low_res_logits - heard).abs().mean() > 1e-3


def test_text_is_a_form_of_its_own(compact: AuralSAM2) -> None:
    without = AuralSAM2.from_preset("compact", 224)
    extra = set(compact.state_dict()) - set(without.state_dict())
    assert extra == {f"aural_fuser.text_proj.{i}.{leaf}" for i in (0, 2) for leaf in ("weight", "bias")}
    with pytest.raises(NetworkError, match="no text projection; build it with text=True"):
        without(*clip(1), torch.zeros(1, 25, 128))


def test_fusion_forms_share_their_weights_and_differ_in_their_answer(compact: AuralSAM2) -> None:
    paper = AuralSAM2.from_preset("compact", 224, text=True, fusion="paper")
    paper.load_released(compact.state_dict())
    assert (paper(*clip(2)).low_res_logits - compact(*clip(2)).low_res_logits).abs().mean() > 1e-3


@pytest.mark.parametrize("num_examples", [1, 3])
def test_with_words_sound_may_be_shorter_or_longer_than_the_clip(compact: AuralSAM2, num_examples: int) -> None:
    frames, log_mel = clip(2)
    sound = log_mel[[0, 1, 1][:num_examples]]
    out = compact(frames, sound, torch.ones(1, 2, 128))
    assert out.low_res_logits.shape[0] == 2
    assert (out.low_res_logits - compact(frames, log_mel, torch.ones(1, 2, 128)).low_res_logits).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("frames", "log_mel", "text", "conditioning_frame", "message"),
    [
        ((2, 3, 256, 256), (2, 2, 96, 64), None, 0, r"frames are \[2, 3, 256, 256\]; .* \[T, 3, 224, 224\], T >= 1"),
        ((0, 3, 224, 224), (0, 2, 96, 64), None, 0, r"frames are \[0, 3, 224, 224\]"),
        ((2, 3, 224, 224), (1, 2, 96, 64), None, 0, r"log_mel is \[1, 2, 96, 64\]; 2 frames need \[2, 2, 96, 64\]"),
        ((2, 3, 224, 224), (2, 1, 96, 64), None, 0, r"log_mel is \[2, 1, 96, 64\]"),
        (
            (3, 3, 224, 224),
            (1, 2, 96, 64),
            (1, 1, 128),
            0,
            r"log_mel is \[1, 2, 96, 64\]; 3 frames need \[3, 2, 96, 64\]",
        ),
        ((2, 3, 224, 224), (2, 2, 96, 64), (768,), 0, r"text is \[768\]; it must be \[1, L, 128\]"),
        ((2, 3, 224, 224), (2, 2, 96, 64), (25, 768), 0, r"text is \[25, 768\]; it must be \[1, L, 128\]"),
        ((2, 3, 224, 224), (2, 2, 96, 64), None, 2, "conditioning_frame 2 is outside the clip, 0 to 1"),
        ((2, 3, 224, 224), (2, 2, 96, 64), None, -1, "conditioning_frame -1 is outside the clip"),
    ],
)
def test_inputs_that_do_not_fit(
    compact: AuralSAM2,
    frames: tuple[int, ...],
    log_mel: tuple[int, ...],
    text: tuple[int, ...] | None,
    conditioning_frame: int,
    message: str,
) -> None:
    words = None if text is None else torch.zeros(text)
    with pytest.raises(NetworkError, match=message):
        compact(torch.zeros(frames), torch.zeros(log_mel), words, conditioning_frame)


@pytest.fixture
def three_frames() -> ClipOutput:
    """Candidate c of frame t is 10 t + c everywhere; the best is 2, 0, 1; the last frame shows no object."""
    logits = torch.tensor([[10.0 * t + c for c in range(3)] for t in range(3)])[:, :, None, None].expand(3, 3, 2, 2)
    iou = torch.tensor([[0.1, 0.2, 0.9], [0.8, 0.1, 0.1], [0.3, 0.7, 0.6]])
    return ClipOutput(logits, iou, torch.tensor([[3.0], [0.0], [-0.1]]), torch.zeros(3, 256))


def test_read_outs(three_frames: ClipOutput) -> None:
    def values(mask: Tensor) -> list[float]:
        assert mask.shape == (3, 2, 2)
        assert (mask == mask[:, :1, :1]).all()
        return mask[:, 0, 0].tolist()

    assert values(three_frames.select("first")) == [0, 10, 20]
    assert values(three_frames.select("iou")) == [2, 10, 21]
    # A score of exactly 0 is not below 0: that frame keeps its mask.
    assert values(three_frames.select("iou_occlusion")) == [2, 10, -1024]
    assert values(three_frames.select()) == [2, 10, -1024]
    with pytest.raises(NetworkError, match="read-out 'best' is unknown; choose one of first, iou, iou_occlusion"):
        three_frames.select("best")  # type: ignore[arg-type]
