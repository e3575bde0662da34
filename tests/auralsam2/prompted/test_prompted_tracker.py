"""Prompted segmentation and tracking against the sam2 package's own video predictor, on the same weights and frames."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hydra.utils
import pytest
import sam2
import torch
from omegaconf import OmegaConf
from sam2 import sam2_video_predictor
from torch import Tensor

from auralsam2.model.parity_weights import parity_state
from auralsam2.network import image_encoder, mask_decoder
from auralsam2.network.memory import Positions
from auralsam2.network.positions import rotary_tables, sine_2d
from auralsam2.network.readout import NO_OBJECT_LOGIT
from auralsam2.network.segment_anything import SegmentAnything
from auralsam2.network.tracker import ImageFeatures
from auralsam2.presets import STRIDE, preset
from auralsam2.prompted import prompted_tracker
from auralsam2.prompted.prompted_tracker import PromptedClip, track_prompts
from auralsam2.prompted.prompts import FramePrompt
from export.gates.sample_clip import sample_frames

SIZE, NUM_FRAMES, SEED = 512, 3, 51
BUDGET = 2e-3
SIDE = 4 * SIZE // STRIDE
POINTS = ((201.0, 150.0), (330.0, 300.0), (90.0, 410.0), (256.0, 256.0), (400.0, 60.0))
LABELS = (1, 0, 1, 1, 0)
BOX = (101.0, 80.0, 420.0, 333.0)


@pytest.fixture(scope="module")
def sam() -> SegmentAnything:
    sam = SegmentAnything(preset("hiera_tiny"), SIZE).eval()
    sam.load_state_dict(parity_state(sam, SEED))
    return sam


@pytest.fixture(scope="module")
def predictor(sam: SegmentAnything) -> Any:
    """SAM2's predictor as `build_sam2_video_predictor` configures it, but for the filling of holes (CUDA only)."""
    config = OmegaConf.load(Path(sam2.__file__).parent / "configs/sam2/sam2_hiera_t.yaml").model
    config._target_ = "sam2.sam2_video_predictor.SAM2VideoPredictor"
    config.image_size = SIZE
    config.binarize_mask_from_pts_for_mem_enc = True
    config.sam_mask_decoder_extra_args = {
        "dynamic_multimask_via_stability": True,
        "dynamic_multimask_stability_delta": 0.05,
        "dynamic_multimask_stability_thresh": 0.98,
    }
    predictor = hydra.utils.instantiate(config, _recursive_=True).eval()
    predictor.load_state_dict(sam.state_dict())
    return predictor


@pytest.fixture(scope="module")
def frames() -> Tensor:
    return image_encoder.normalise(torch.from_numpy(sample_frames(NUM_FRAMES, SIZE)))


@pytest.fixture(scope="module")
def theirs(predictor: Any, frames: Tensor) -> Iterator[Any]:
    """Makes a state of the predictor. The frames are encoded once, by SAM2's own encoder."""
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(sam2_video_predictor, "load_video_frames", lambda **given: (frames, SIZE, SIZE))
        patch.setattr(sam2_video_predictor, "tqdm", lambda order, desc: order)
        cached = {t: (frame[None], predictor.forward_image(frame[None])) for t, frame in enumerate(frames)}
        patch.setattr(predictor, "forward_image", lambda image: cached[0][1])

        def make() -> dict[str, Any]:
            state: dict[str, Any] = predictor.init_state("clip")
            state["cached_features"] = cached
            return state

        yield make


@pytest.fixture(scope="module")
def image(sam: SegmentAnything, frames: Tensor) -> ImageFeatures:
    with torch.no_grad():
        fpn = image_encoder.pyramid(sam, frames, image_encoder.position_embedding(sam.image_encoder.trunk, SIZE))
        decoder = sam.sam_mask_decoder
        return ImageFeatures(decoder.conv_s0(fpn[0]), decoder.conv_s1(fpn[1]), fpn[2])


def ours(sam: SegmentAnything, image: ImageFeatures, *prompts: FramePrompt) -> PromptedClip:
    side = SIZE // STRIDE
    sines = [sine_2d(width, side).flatten(1).T for width in (256, 64)]
    positions = Positions(*sines, *rotary_tables(256, side))
    return track_prompts(sam, image, prompts, positions, mask_decoder.dense_positions(sam))


def prompt(frame: int, num_points: int, box: bool = False, **more: Tensor) -> FramePrompt:
    coords, labels = list(POINTS[:num_points]), list(LABELS[:num_points])
    if box:
        coords, labels = [BOX[:2], BOX[2:], *coords], [2, 3, *labels]
    return FramePrompt(frame, torch.tensor(coords).reshape(-1, 2), torch.tensor(labels), **more)


def tracked(predictor: Any, state: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Logits [T, S/4, S/4] and object scores [T, 1], forward to the end and then backward to the start."""
    for reverse in (False, True):
        list(predictor.propagate_in_video(state, reverse=reverse))
    outputs = state["output_dict_per_obj"][0]
    found = outputs["cond_frame_outputs"] | outputs["non_cond_frame_outputs"]
    assert sorted(found) == list(range(NUM_FRAMES))
    clip = [found[t] for t in range(NUM_FRAMES)]
    return torch.cat([f["pred_masks"][:, 0] for f in clip]), torch.cat([f["object_score_logits"] for f in clip])


def same(found: PromptedClip, masks: Tensor, scores: Tensor) -> None:
    assert torch.equal(found.masks == NO_OBJECT_LOGIT, masks == NO_OBJECT_LOGIT)
    assert masks.std() > 0.1
    torch.testing.assert_close(found.masks, masks, rtol=0, atol=BUDGET)
    torch.testing.assert_close(found.object_score, scores, rtol=0, atol=BUDGET)


def mask() -> Tensor:
    """An ellipse with a notch, [S/4, S/4] bool."""
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    inside = ((x - 50) / 31) ** 2 + ((y - 70) / 23) ** 2 < 1
    return inside & ~((x > 60) & (y > 72))


@pytest.mark.parametrize(
    ("num_points", "box", "frame"),
    [(1, False, 0), (1, False, 1), (3, False, 1), (5, False, 0), (0, True, 2), (4, True, 1)],
    ids=["1 first", "1 middle", "3 middle", "5 first", "box last", "box and 4 middle"],
)
def test_points_and_box(
    sam: SegmentAnything, predictor: Any, theirs: Any, image: ImageFeatures, num_points: int, box: bool, frame: int
) -> None:
    state = theirs()
    predictor.add_new_points_or_box(
        state,
        frame,
        1,
        points=POINTS[:num_points] if num_points else None,
        labels=LABELS[:num_points] if num_points else None,
        box=BOX if box else None,
    )
    same(ours(sam, image, prompt(frame, num_points, box)), *tracked(predictor, state))


def test_a_stable_mask_is_kept(
    sam: SegmentAnything, predictor: Any, theirs: Any, image: ImageFeatures, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random weights make no mask that is stable enough; here the threshold comes to it."""
    monkeypatch.setattr(prompted_tracker, "STABILITY_THRESHOLD", 0.9)
    monkeypatch.setattr(predictor.sam_mask_decoder, "dynamic_multimask_stability_thresh", 0.9)
    state = theirs()
    predictor.add_new_points_or_box(state, 1, 1, points=POINTS[:3], labels=LABELS[:3])
    found = ours(sam, image, prompt(1, 3))
    same(found, *tracked(predictor, state))
    monkeypatch.undo()
    assert not torch.equal(ours(sam, image, prompt(1, 3)).masks[1], found.masks[1]), "another mask stands in for it"


def test_frames_without_the_object_are_empty(
    sam: SegmentAnything, predictor: Any, theirs: Any, image: ImageFeatures
) -> None:
    """The score's bias is lowered until the tracked frames fall below 0, and the prompted one does not."""
    biases = [model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias for model in (sam, predictor)]
    for bias in biases:
        bias -= 0.51
    state = theirs()
    predictor.add_new_points_or_box(state, 1, 1, points=POINTS[:1], labels=LABELS[:1])
    found = ours(sam, image, prompt(1, 1))
    same(found, *tracked(predictor, state))
    for bias in biases:
        bias += 0.51
    assert [bool((mask == NO_OBJECT_LOGIT).all()) for mask in found.masks] == [False, False, True]


def test_mask(sam: SegmentAnything, predictor: Any, theirs: Any, image: ImageFeatures) -> None:
    state = theirs()
    predictor.add_new_mask(state, 1, 1, mask())
    same(ours(sam, image, prompt(1, 0, mask=mask().float())), *tracked(predictor, state))


def test_a_mask_without_anything_inside(
    sam: SegmentAnything, predictor: Any, theirs: Any, image: ImageFeatures
) -> None:
    state, nothing = theirs(), torch.zeros(SIDE, SIDE)
    predictor.add_new_mask(state, 0, 1, nothing)
    same(ours(sam, image, prompt(0, 0, mask=nothing)), *tracked(predictor, state))


def test_a_later_round_reads_the_logits_of_the_earlier(
    sam: SegmentAnything, predictor: Any, theirs: Any, image: ImageFeatures
) -> None:
    state = theirs()
    previous: Tensor | None = None
    for num_points in (1, 3):
        start = 0 if num_points == 1 else 1
        predictor.add_new_points_or_box(
            state, 1, 1, points=POINTS[start:num_points], labels=LABELS[start:num_points], clear_old_points=False
        )
        answer = ours(sam, image, prompt(1, num_points, previous=previous))
        previous = answer.masks[1]
    same(answer, *tracked(predictor, state))


def test_points_refine_a_mask(sam: SegmentAnything, predictor: Any, theirs: Any, image: ImageFeatures) -> None:
    state = theirs()
    predictor.add_new_mask(state, 0, 1, mask())
    predictor.add_new_points_or_box(state, 0, 1, points=POINTS[:3], labels=LABELS[:3])
    same(ours(sam, image, prompt(0, 3, mask=mask().float())), *tracked(predictor, state))


def test_several_prompted_frames(sam: SegmentAnything, predictor: Any, theirs: Any, image: ImageFeatures) -> None:
    state = theirs()
    predictor.add_new_points_or_box(state, 2, 1, points=POINTS[:1], labels=LABELS[:1])
    predictor.add_new_mask(state, 0, 1, mask())
    same(ours(sam, image, prompt(2, 1), prompt(0, 0, mask=mask().float())), *tracked(predictor, state))
