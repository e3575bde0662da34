"""Each fact of the released network that is easy to get wrong, got wrong: the golden figures have to notice.

A mutation moves some frame's logits by at least ten times the tolerance of `test_parity.py`. A fact that no golden case
can show (a seventh memory, a sixteenth pointer: clips have 3 to 5 frames) is held by a test of its own elsewhere.
Long because each fact has one mutation, and all run on the same kept passes, which two files would have to make twice.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import auralsam2.network.fusion
from auralsam2 import AuralSAM2
from auralsam2.network import image_encoder, mask_decoder, memory, tracker
from auralsam2.network.aural_fuser import AuralFeatures
from auralsam2.network.fusion import AudioVisualFusion
from auralsam2.network.pvt import Block
from auralsam2.network.readout import NO_OBJECT_LOGIT, best
from auralsam2.network.tracker import Tracked
from kernels.fusion import reference
from tests.auralsam2.golden import TOLERANCE, Golden, Seen, tracked_again, watched

LIMIT = 10 * TOLERANCE["low_res_logits"]


@dataclass(frozen=True)
class Case:
    """A golden case, whose parts can be run again with something changed."""

    golden: Golden
    model: AuralSAM2
    seen: Seen
    inputs: list[Tensor | None]

    def track(self, conditioning_frame: int | None = None) -> Tracked:
        """The tracker alone."""
        frame = self.golden.conditioning_frame if conditioning_frame is None else conditioning_frame
        return tracked_again(self.model, self.seen.image, self.seen.aural, frame)

    def fuse(self, tokens: Tensor | None = None) -> Tracked:
        """Fuser and tracker, with other tokens of sound and text where given."""
        fuser, (_, log_mel, text) = self.model.aural_fuser, self.inputs
        assert log_mel is not None
        aural = fuser(self.seen.patches, fuser.tokens(log_mel, text) if tokens is None else tokens)
        return tracked_again(self.model, self.seen.image, aural, self.golden.conditioning_frame)

    def all(self) -> Tracked:
        """Everything."""
        return watched(self.model, self.inputs, self.golden.conditioning_frame).out


@pytest.fixture(scope="module")
def cases() -> Callable[[str], Case]:
    made: dict[str, Case] = {}

    def case(name: str) -> Case:
        if name not in made:
            golden = Golden.read(name)
            model, inputs = golden.model(), golden.inputs()
            made[name] = Case(golden, model, watched(model, inputs, golden.conditioning_frame), inputs)
        return made[name]

    return case


@pytest.fixture(scope="module")
def tiny(cases: Callable[[str], Case]) -> Case:
    """Three frames, the first is the conditioning frame, no text."""
    return cases("tiny_256_t3")


@pytest.fixture(scope="module")
def text(cases: Callable[[str], Case]) -> Case:
    """Four frames with text, the third is the conditioning frame, maps of 14 x 14."""
    return cases("small_224_t4_text_mid")


def noticed(case: Case, mutated: Tracked) -> None:
    error = case.golden.error("low_res_logits", mutated)
    assert error.max() > LIMIT, f"by frame {error}: within reach of {LIMIT}, parity would not notice"


def test_unchanged_parts_agree(tiny: Case, text: Case) -> None:
    """Running the parts again is no mutation by itself."""
    for case in (tiny, text):
        for run in (case.track(), case.fuse()):
            assert (case.golden.error("low_res_logits", run) <= TOLERANCE["low_res_logits"]).all()


# Sound and text.


def test_vggish_flattens_channels_first(tiny: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    vggish = tiny.model.aural_fuser.vgg

    def forward(log_mel: Tensor) -> Tensor:
        embedding = vggish.embeddings(vggish.features(log_mel.reshape(-1, 1, 96, 64)).flatten(1))
        return torch.cat([embedding[0::2], embedding[1::2]], dim=1)

    monkeypatch.setattr(vggish, "forward", forward)
    noticed(tiny, tiny.fuse())


def test_no_relu_after_the_embedding(tiny: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    vggish = tiny.model.aural_fuser.vgg
    monkeypatch.setitem(vggish._modules, "embeddings", vggish.embeddings[:-1])
    noticed(tiny, tiny.fuse())


def test_left_and_right_exchanged(tiny: Case) -> None:
    noticed(tiny, tiny.fuse(tiny.seen.vggish.roll(128, 1)))


def test_text_before_sound(text: Case) -> None:
    fuser, (_, log_mel, words) = text.model.aural_fuser, text.inputs
    assert log_mel is not None
    noticed(text, text.fuse(fuser.tokens(log_mel, words).roll(25, 0)))


def test_text_left_out(text: Case) -> None:
    noticed(text, text.fuse(text.seen.vggish))


@pytest.mark.parametrize("position", ["none", "of its own"])
def test_another_position_of_sound(tiny: Case, monkeypatch: pytest.MonkeyPatch, position: str) -> None:
    """Released: every token has that of position 0 (0, 1, 0, 1, ...)."""
    released = tiny.model.aural_fuser.audio_position
    index = torch.arange(tiny.golden.num_frames)[:, None] / 10000 ** (torch.arange(0, 256, 2) / 256)
    counted = torch.stack([index.sin(), index.cos()], 2).flatten(1)
    other = torch.zeros_like(released) if position == "none" else counted
    monkeypatch.setitem(tiny.model.aural_fuser._buffers, "audio_position", other)
    noticed(tiny, tiny.fuse())


# Image encoder.


def test_a_top_down_path_at_every_level(tiny: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def pyramid(sam: Any, frames: Tensor, position: Tensor, after_layer: None) -> tuple[Tensor, Tensor, Tensor]:
        neck = sam.image_encoder.neck
        features = image_encoder.trunk_features(sam.image_encoder.trunk, frames, position)
        level_2 = image_encoder.image_embedding(neck, features)
        level_1 = neck.convs[2](features[1]) + F.interpolate(level_2, scale_factor=2.0, mode="nearest")
        return neck.convs[3](features[0]) + F.interpolate(level_1, scale_factor=2.0, mode="nearest"), level_1, level_2

    monkeypatch.setattr(image_encoder, "pyramid", pyramid)
    noticed(tiny, tiny.all())


# AuralFuser.


@pytest.mark.parametrize("stage", [1, 2])
def test_a_stage_without_the_one_before(tiny: Case, monkeypatch: pytest.MonkeyPatch, stage: int) -> None:
    smooth = tiny.model.aural_fuser.smooth_convs[stage - 1]
    monkeypatch.setattr(smooth, "forward", lambda _sum: F.conv2d(tiny.seen.patches[stage], smooth.weight, smooth.bias))
    noticed(tiny, tiny.fuse())


@pytest.mark.parametrize("stage", [1, 2])
def test_a_convolution_before_the_sum(tiny: Case, monkeypatch: pytest.MonkeyPatch, stage: int) -> None:
    smooth, image = tiny.model.aural_fuser.smooth_convs[stage - 1], tiny.seen.patches[stage]
    monkeypatch.setattr(smooth, "forward", lambda sums: F.conv2d(image, smooth.weight, smooth.bias) + (sums - image))
    noticed(tiny, tiny.fuse())


def test_no_position_of_the_image(tiny: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    fuser = tiny.model.aural_fuser
    monkeypatch.setitem(fuser._buffers, "sine", torch.zeros_like(fuser.sine))
    noticed(tiny, tiny.fuse())


@pytest.mark.parametrize("side", ["picture", "sound"])
def test_positions_are_added_once(tiny: Case, monkeypatch: pytest.MonkeyPatch, side: str) -> None:
    """Released: before the blocks, and again before the fusion."""
    fuser = tiny.model.aural_fuser
    for module in fuser.fusion_modules:

        def forward(
            visual: Tensor, audio: Tensor, size: int, module: AudioVisualFusion = module
        ) -> tuple[Tensor, Tensor]:
            visual, audio = (
                (visual - fuser.sine, audio) if side == "picture" else (visual, audio - fuser.audio_position)
            )
            return AudioVisualFusion.forward(module, visual, audio, size)

        monkeypatch.setattr(module, "forward", forward)
    noticed(tiny, tiny.fuse())


def test_sound_attends_within_its_frame_only(tiny: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    for blocks in tiny.model.aural_fuser.a_blocks:
        for block in blocks:

            def forward(x: Tensor, side: None = None, block: Block = block) -> Tensor:
                return Block.forward(block, x.transpose(0, 1)).transpose(0, 1)

            monkeypatch.setattr(block, "forward", forward)
    noticed(tiny, tiny.fuse())


# Two-way fusion.


def test_no_align_channel(tiny: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in tiny.model.aural_fuser.fusion_modules:
        monkeypatch.setattr(module.align_channel, "forward", lambda tokens: tokens)
    noticed(tiny, tiny.fuse())


def test_the_residual_of_sound_is_not_aligned(tiny: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in tiny.model.aural_fuser.fusion_modules:

        def forward(
            visual: Tensor, audio: Tensor, side: int, module: AudioVisualFusion = module
        ) -> tuple[Tensor, Tensor]:
            norm, aligned = module.norm_layer2, module.align_channel(audio[:, :, None])[:, :, 0]
            kept: list[Tensor] = []
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(norm, "forward", lambda summed: kept.append(summed) or summed)
                frame, _ = AudioVisualFusion.forward(module, visual, audio, side)
            return frame, type(norm).forward(norm, kept[0] - aligned + audio)

        monkeypatch.setattr(module, "forward", forward)
    noticed(tiny, tiny.fuse())


Projections = tuple[Tensor, Tensor, Tensor]


def _transposed_rows(visual: Projections, audio: Projections) -> tuple[Tensor, Tensor]:
    """Proper tokens, as one would expect, in place of 128 consecutive pixels of a channel."""
    num_frames, width, *size = visual[0].shape
    q_v, k_v, v_v = (x.flatten(2).transpose(1, 2).reshape(-1, width) for x in visual)
    q_a, k_a, v_a = audio
    frame = q_v @ k_a.T @ v_a / len(q_v)
    sound = q_a @ k_v.T @ v_v / len(q_v)
    return frame.reshape(num_frames, -1, width).transpose(1, 2).unflatten(2, size), sound


def _untransposed_results(visual: Projections, audio: Projections) -> tuple[Tensor, Tensor]:
    """Both results read as they lie, so that no value moves across frames or tokens."""
    frame, sound = reference.two_way_released(visual, audio)
    width = visual[0].shape[1]
    return frame.reshape(width, -1).T.reshape(frame.shape), sound.reshape(width, -1).T.reshape(sound.shape)


def _another_divisor(visual: Projections, audio: Projections) -> tuple[Tensor, Tensor]:
    """Divided by the tokens of one frame, not of the clip."""
    frame, sound = reference.two_way_released(visual, audio)
    return frame * len(visual[0]), sound * len(visual[0])


@pytest.mark.parametrize("attend", [reference.two_way_paper, _transposed_rows, _untransposed_results, _another_divisor])
@pytest.mark.parametrize("name", ["tiny_256_t3", "small_224_t4_text_mid"])
def test_another_form_of_the_fusion(
    cases: Callable[[str], Case],
    monkeypatch: pytest.MonkeyPatch,
    attend: Callable[[Projections, Projections], tuple[Tensor, Tensor]],
    name: str,
) -> None:
    monkeypatch.setattr(auralsam2.network.fusion, "two_way_released", attend)
    noticed(cases(name), cases(name).fuse())


# Decoder.


def test_another_order_of_the_stages(tiny: Case) -> None:
    aural = AuralFeatures(tiny.seen.aural.visual[::-1], tiny.seen.aural.audio[::-1])
    noticed(tiny, dataclasses.replace(tiny, seen=dataclasses.replace(tiny.seen, aural=aural)).track())


@pytest.mark.parametrize("first", [0, 1])
def test_sound_goes_to_other_tokens(tiny: Case, monkeypatch: pytest.MonkeyPatch, first: int) -> None:
    """Released: to the four mask tokens, after those of object score and IoU."""
    monkeypatch.setattr(
        mask_decoder,
        "_add_to_mask_tokens",
        lambda tokens, audio: torch.cat([tokens[:, :first], tokens[:, first:] + audio], dim=1),
    )
    noticed(tiny, tiny.track())


def test_the_queries_position_without_sound(tiny: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    silent = mask_decoder.output_tokens(tiny.model.v_model.sam_mask_decoder)[None]
    block = mask_decoder._two_way_block
    monkeypatch.setattr(
        mask_decoder, "_two_way_block", lambda b, queries, keys, _pe, key_pe: block(b, queries, keys, silent, key_pe)
    )
    noticed(tiny, tiny.track())


@pytest.mark.parametrize("stage", [0, 1, 2])
@pytest.mark.parametrize("part", ["visual", "audio"])
def test_a_stage_that_does_not_enter(tiny: Case, stage: int, part: str) -> None:
    features = list(getattr(tiny.seen.aural, part))
    features[stage] = torch.zeros_like(features[stage])
    aural = tiny.seen.aural._replace(**{part: tuple(features)})
    noticed(tiny, dataclasses.replace(tiny, seen=dataclasses.replace(tiny.seen, aural=aural)).track())


def test_no_dense_prompt(tiny: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    prompt = tiny.model.v_model.sam_prompt_encoder.no_mask_embed
    monkeypatch.setattr(prompt.weight, "data", torch.zeros_like(prompt.weight))
    noticed(tiny, tiny.track())


def _decoded_otherwise(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[mask_decoder.FrameMasks], mask_decoder.FrameMasks]
) -> None:
    decode = tracker.decode
    monkeypatch.setattr(tracker, "decode", lambda *args: change(decode(*args)))


def test_masks_of_absent_objects_are_erased(text: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    _decoded_otherwise(
        monkeypatch,
        lambda masks: masks._replace(
            low_res_logits=torch.where(masks.object_score[..., None, None] > 0, masks.low_res_logits, NO_OBJECT_LOGIT)
        ),
    )
    noticed(text, text.track())


# Tracking.


def test_a_soft_mask_in_the_memory(tiny: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "harden", torch.sigmoid)
    noticed(tiny, tiny.track())


@pytest.mark.parametrize(("name", "value"), [("MASK_SCALE", 1.0), ("MASK_BIAS", 0.0)])
def test_another_scale_of_the_remembered_mask(
    tiny: Case, monkeypatch: pytest.MonkeyPatch, name: str, value: float
) -> None:
    monkeypatch.setattr(memory, name, value)
    noticed(tiny, tiny.track())


def test_the_first_candidate_is_remembered(tiny: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Released: the candidate with the best predicted IoU feeds memory and pointer."""
    monkeypatch.setattr(tracker, "best", lambda values, _iou: values[:, 0])
    noticed(tiny, tiny.track())


@pytest.mark.parametrize("frame", [0, 1, 3])
def test_another_conditioning_frame(text: Case, frame: int) -> None:
    noticed(text, text.track(frame))


def test_the_conditioning_frame_does_not_say_that_it_has_no_memory(tiny: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    embedding = tiny.model.v_model.no_mem_embed
    monkeypatch.setattr(embedding, "data", torch.zeros_like(embedding))
    noticed(tiny, tiny.track())


def _reaching(monkeypatch: pytest.MonkeyPatch, change: Callable[[memory.Reach], memory.Reach]) -> None:
    reach = memory.reach
    monkeypatch.setattr(memory, "reach", lambda *args: change(reach(*args)))


def test_no_pointers(tiny: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    _reaching(monkeypatch, lambda reach: reach._replace(pointers=[]))
    noticed(tiny, tiny.track())


def test_pointers_of_later_frames(text: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames before the conditioning frame read its memory, but not its pointer: it lies in their future."""
    _reaching(
        monkeypatch,
        lambda reach: reach._replace(pointers=list(dict.fromkeys([text.golden.conditioning_frame, *reach.pointers]))),
    )
    noticed(text, text.track())


def test_no_memory_but_the_conditioning_frames(tiny: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    _reaching(monkeypatch, lambda reach: reach._replace(frames=reach.frames[:1]))
    noticed(tiny, tiny.track())


def test_the_conditioning_frame_counts_as_near(tiny: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its temporal encoding is the last row, whatever its distance."""
    _reaching(monkeypatch, lambda reach: reach._replace(frames=[(index, 0) for index, _ in reach.frames]))
    noticed(tiny, tiny.track())


def test_a_temporal_encoding_of_pointers(tiny: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    gather = tracker.gather
    encoding = tiny.model.v_model.maskmem_tpos_enc[0, 0]

    def encoded(*args: Any) -> memory.MemoryReading:
        reading = gather(*args)
        placed = reading.placed.clone()
        if reading.num_pointer_tokens:
            placed[-reading.num_pointer_tokens :] += encoding
        return dataclasses.replace(reading, placed=placed, keys=None)

    monkeypatch.setattr(tracker, "gather", encoded)
    noticed(tiny, tiny.track())


@pytest.mark.parametrize("table", ["cos", "sin", "image", "memory"])
def test_no_position_in_the_memory_attention(tiny: Case, table: str) -> None:
    model, dense = tiny.model, mask_decoder.dense_positions(tiny.model.v_model)
    positions = model.positions()
    neutral = torch.ones_like if table == "cos" else torch.zeros_like
    positions = dataclasses.replace(positions, **{table: neutral(getattr(positions, table))})
    mutated = tracker.track(model.v_model, tiny.seen.image, tiny.seen.aural, 0, positions, dense)
    noticed(tiny, mutated)


def test_the_frame_is_remembered_as_it_has_read(tiny: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Released: the memory encoder gets the frame's own map, before it read any memory."""
    remember, kept = tracker.remember, list[Tensor]()

    def read(*args: Any) -> Tensor:
        kept.append(memory.attend(*args))
        return kept[-1]

    def remember_read(sam: Any, embedding: Tensor, mask_logits: Tensor) -> Tensor:
        return remember(sam, kept[-1].T.reshape(embedding.shape) if kept else embedding, mask_logits)

    monkeypatch.setattr(tracker, "remember", remember_read)
    model, dense = tiny.model, mask_decoder.dense_positions(tiny.model.v_model)
    image, aural = tiny.seen.image, tiny.seen.aural
    noticed(tiny, tracker.track(model.v_model, image, aural, 0, model.positions(), dense, read=read))


# Frames without object: three of the four frames with text.


def test_an_absent_object_leaves_a_pointer_of_its_own(text: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracker, "_object_pointer", lambda sam, masks: sam.obj_ptr_proj(best(masks.tokens, masks.iou)))
    noticed(text, text.track())


def test_an_absent_objects_mask_is_not_remembered(text: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Released: the best candidate feeds the memory whatever the object score."""

    def erase(masks: mask_decoder.FrameMasks) -> Tensor:
        return torch.where(masks.object_score[..., None] > 0, best(masks.low_res_logits, masks.iou), NO_OBJECT_LOGIT)

    masks_of, remember = list[mask_decoder.FrameMasks](), tracker.remember
    _decoded_otherwise(monkeypatch, lambda masks: masks_of.append(masks) or masks)
    monkeypatch.setattr(
        tracker, "remember", lambda sam, embedding, _logits: remember(sam, embedding, erase(masks_of[-1])[:, None])
    )
    noticed(text, text.track())
