"""The network's own forward passes against the sam2 package's, on well-scaled weights, where 1e-5 can be asked for."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra.utils
import pytest
import sam2
import torch
from omegaconf import OmegaConf
from sam2.modeling.position_encoding import PositionEmbeddingSine, apply_rotary_enc, compute_axial_cis
from torch import Tensor, nn

from auralsam2.network import image_encoder, mask_decoder
from auralsam2.network.memory import (
    MemoryReading,
    Positions,
    Remembered,
    attend,
    enlarge,
    gather,
    remember,
    remember_mask,
)
from auralsam2.network.positions import first_position_1d, pair_exchange, rotary_tables, rotate, sine_2d
from auralsam2.network.segment_anything import SegmentAnything
from auralsam2.network.tracker import decoding_order
from auralsam2.presets import preset

SIZE, SIDE, WIDTH, MEMORY_WIDTH = 256, 16, 256, 64
RELATIVE = 1e-5


def same(ours: Tensor, theirs: Tensor) -> None:
    """Equal to RELATIVE of the largest element."""
    assert ours.shape == theirs.shape
    torch.testing.assert_close(ours, theirs, rtol=0, atol=RELATIVE * theirs.abs().max().item())


@pytest.fixture(scope="module")
def upstream(well_scaled: Callable[[nn.Module, int], nn.Module]) -> Any:
    """SAM2Base as its own configuration builds it, at 256 px."""
    config = OmegaConf.load(Path(sam2.__file__).parent / "configs/sam2/sam2_hiera_t.yaml")
    config.model.image_size = SIZE
    return well_scaled(hydra.utils.instantiate(config.model, _recursive_=True), 0)


@pytest.fixture(scope="module")
def sam(upstream: Any) -> SegmentAnything:
    ours = SegmentAnything(preset("hiera_tiny"), SIZE).eval()
    ours.load_state_dict(upstream.state_dict())
    return ours


@pytest.fixture(scope="module")
def positions() -> Positions:
    sines = [sine_2d(width, SIDE).flatten(1).T for width in (WIDTH, MEMORY_WIDTH)]
    return Positions(*sines, *rotary_tables(WIDTH, SIDE))


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("side", [7, 14, 16, 64])
@pytest.mark.parametrize("width", [64, 256])
def test_sine_positions(width: int, side: int) -> None:
    theirs = PositionEmbeddingSine(width)(torch.zeros(1, 1, side, side))[0]
    torch.testing.assert_close(sine_2d(width, side), theirs, rtol=0, atol=1e-6)


def test_the_position_added_to_sound_is_that_of_place_zero() -> None:
    assert first_position_1d(6).tolist() == [0, 1, 0, 1, 0, 1]


@pytest.mark.parametrize(("width", "side"), [(256, 16), (256, 14), (128, 16)])
def test_rotation_of_real_pairs_is_the_complex_product(width: int, side: int) -> None:
    q, k = random(1, 1, side * side, width), random(1, 1, 3 * side * side, width, seed=1)
    cis = compute_axial_cis(width, side, side)
    their_q, their_k = apply_rotary_enc(q, k, cis, repeat_freqs_k=True)
    cos, sin = rotary_tables(width, side)
    torch.testing.assert_close(rotate(q[0, 0], cos, sin), their_q[0, 0], rtol=0, atol=1e-6)
    ours = rotate(k[0, 0].unflatten(0, (3, -1)), cos, sin).flatten(0, 1)
    torch.testing.assert_close(ours, their_k[0, 0], rtol=0, atol=1e-6)
    exchange = pair_exchange(width)
    torch.testing.assert_close(rotate(q[0, 0], cos, sin, exchange), their_q[0, 0], rtol=0, atol=1e-6)
    ours = rotate(k[0, 0].unflatten(0, (3, -1)), cos, sin, exchange).flatten(0, 1)
    torch.testing.assert_close(ours, their_k[0, 0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [256, 224])
def test_image_pyramid(upstream: Any, sam: SegmentAnything, size: int) -> None:
    frames = random(2, 3, size, size)
    ours = image_encoder.pyramid(sam, frames, image_encoder.position_embedding(sam.image_encoder.trunk, size))
    for level, theirs in zip(ours, upstream.image_encoder(frames)["backbone_fpn"], strict=True):
        same(level, theirs)


@pytest.mark.parametrize(("remembered", "pointers"), [(1, 0), (3, 0), (1, 1), (7, 16)])
def test_memory_attention(
    upstream: Any, sam: SegmentAnything, positions: Positions, remembered: int, pointers: int
) -> None:
    tokens = remembered * SIDE**2 + pointers * WIDTH // MEMORY_WIDTH
    image, memory, places = random(SIDE**2, WIDTH), random(tokens, MEMORY_WIDTH, seed=1), random(tokens, 64, seed=2)
    num_pointer_tokens = pointers * WIDTH // MEMORY_WIDTH
    theirs = upstream.memory_attention(
        curr=image[:, None],
        curr_pos=positions.image[:, None],
        memory=memory[:, None],
        memory_pos=places[:, None],
        num_obj_ptr_tokens=num_pointer_tokens,
    )
    same(attend(sam, image, MemoryReading(memory, memory + places, num_pointer_tokens), positions), theirs[:, 0])


@pytest.mark.parametrize("clicked", [True, False])
def test_memory_encoder(upstream: Any, sam: SegmentAnything, monkeypatch: pytest.MonkeyPatch, clicked: bool) -> None:
    """A mask from clicks is binary in the memory, as every frame that is segmented by sound; a tracked one is soft."""
    embedding, logits = random(1, WIDTH, SIDE, SIDE), 5 * random(1, 1, 4 * SIDE, 4 * SIDE, seed=1)
    monkeypatch.setattr(upstream, "binarize_mask_from_pts_for_mem_enc", True)
    theirs, _ = upstream._encode_new_memory(
        current_vision_feats=[embedding.flatten(2).permute(2, 0, 1)],
        feat_sizes=[(SIDE, SIDE)],
        pred_masks_high_res=nn.functional.interpolate(logits, (SIZE, SIZE), mode="bilinear", align_corners=False),
        object_score_logits=torch.ones(1, 1),
        is_mask_from_pts=clicked,
    )
    soft = remember_mask(sam, embedding, torch.sigmoid(enlarge(logits)))
    same(remember(sam, embedding, logits) if clicked else soft, theirs[0].flatten(1).T)


@pytest.mark.parametrize("conditioning_frame", ["first", "middle"])
@pytest.mark.parametrize("num_frames", [2, 10, 20])
def test_which_memories_are_read_and_in_which_order(
    upstream: Any, sam: SegmentAnything, positions: Positions, num_frames: int, conditioning_frame: str
) -> None:
    """20 frames from frame 0: both the limit of six frames and that of 16 pointers bite."""
    start = 0 if conditioning_frame == "first" else num_frames // 2
    bank: dict[int, Remembered] = {}
    outputs: dict[str, dict[int, dict[str, Any]]] = {"cond_frame_outputs": {}, "non_cond_frame_outputs": {}}
    place = positions.memory.T.reshape(1, MEMORY_WIDTH, SIDE, SIDE)
    for t in decoding_order(num_frames, start):
        if t != start:
            asked: dict[str, Any] = {}

            def record(into: dict[str, Any] = asked, **given: Any) -> Tensor:
                into.update(given)
                return torch.zeros(SIDE**2, 1, WIDTH)

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(upstream.memory_attention, "forward", record)
                upstream._prepare_memory_conditioned_features(
                    frame_idx=t,
                    is_init_cond_frame=False,
                    current_vision_feats=[torch.zeros(SIDE**2, 1, WIDTH)],
                    current_vision_pos_embeds=[torch.zeros(SIDE**2, 1, WIDTH)],
                    feat_sizes=[(SIDE, SIDE)],
                    output_dict=outputs,
                    num_frames=num_frames,
                )
            reading = gather(sam, bank, t, (start,), positions)
            assert reading.num_pointer_tokens == asked["num_obj_ptr_tokens"]
            assert torch.equal(reading.tokens, asked["memory"][:, 0])
            placed = (asked["memory"] + asked["memory_pos"])[:, 0]
            torch.testing.assert_close(reading.placed, placed, rtol=0, atol=1e-6)
        features, pointer = random(SIDE**2, MEMORY_WIDTH, seed=t), random(1, WIDTH, seed=100 + t)
        bank[t] = Remembered(features, pointer)
        kind = "cond_frame_outputs" if t == start else "non_cond_frame_outputs"
        outputs[kind][t] = {
            "maskmem_features": features.T.reshape(1, MEMORY_WIDTH, SIDE, SIDE),
            "maskmem_pos_enc": [place],
            "obj_ptr": pointer,
        }


def test_mask_decoder_without_sound_is_sams(upstream: Any, sam: SegmentAnything) -> None:
    image, silence = random(SIDE**2, WIDTH), [torch.zeros(SIDE**2, WIDTH)] * 3
    high_res = random(1, 32, 64, 64, seed=1), random(1, 64, 32, 32, seed=2)
    ours = mask_decoder.decode(
        sam, image, high_res, silence, [torch.zeros(1, WIDTH)] * 3, mask_decoder.dense_positions(sam)
    )
    sparse, dense = upstream.sam_prompt_encoder(points=None, boxes=None, masks=None)
    assert sparse.shape[1] == 0
    masks, iou, tokens, score = upstream.sam_mask_decoder.predict_masks(
        image_embeddings=image.T.reshape(1, WIDTH, SIDE, SIDE),
        image_pe=upstream.sam_prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        repeat_image=False,
        high_res_features=list(high_res),
    )
    same(ours.low_res_logits, masks[:, 1:])
    same(ours.iou, iou[:, 1:])
    same(ours.tokens, tokens[:, 1:])
    same(ours.object_score, score)
