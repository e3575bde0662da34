"""Teach a network to carry what is marked over a clip: `python -m auralsam2.training.after.tracking_tuning --out DIR`.

SAM2's memory learns, its decoder and its prompt encoder; image encoder and fuser stay as they are, so that their
features are computed once. Each step tracks things that were marked in one frame, without sound, and judges every frame
against the thing itself; it repeats on sound, over whole clips and through the memory of now, what the network said
before; and it answers prompts of single frames, so that none of both is lost. Killed at any moment, the same command
goes on.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from auralsam2.evaluation.clicks import MIN_PIXELS
from auralsam2.model.aural_sam2 import AuralSAM2
from auralsam2.network import mask_decoder, memory
from auralsam2.network.aural_fuser import AuralFeatures
from auralsam2.network.log_mel import LogMel
from auralsam2.network.tracker import ImageFeatures, Tracked, track
from auralsam2.prompted.prompted_masks import PromptedMasks
from auralsam2.prompted.prompted_tracker import FrameByFrame, choose
from auralsam2.prompted.prompts import FramePrompt
from auralsam2.training.after.corrected_prompts import Seen, corrected_losses, prompt_losses
from auralsam2.training.after.lesson import Lesson, Report, Settings, command
from auralsam2.training.after.prompt_examples import Drawn, draw_prompt, perceive
from auralsam2.training.after.repetition import repetition_losses
from auralsam2.training.losses.segmentation import OCCLUSION_WEIGHT

TRACKED_CLIPS, SOUND_CLIPS, PROMPT_BATCH = 3, 1, 8
# Of a thing whose mask is given instead of points.
MASK_SHARE = 0.2


class Clip(NamedTuple):
    """What the frozen parts make of one clip, and what the network said of it before, all float16."""

    image: ImageFeatures
    aural: AuralFeatures
    said: Tracked
    owners: NDArray[np.int8]
    """[T, S, S]: the thing seen at each pixel."""

    def frames(self) -> list[Seen]:
        """Give each frame by itself."""
        image = self.image
        parts = zip(image.embedding, image.high_res_s4, image.high_res_s8, self.owners, strict=True)
        return [Seen(*each) for each in parts]


def _cast(aural: AuralFeatures, dtype: torch.dtype) -> AuralFeatures:
    (first, second, third), (low, middle, high) = (
        tuple(each.to(dtype) for each in part) for part in (aural.visual, aural.audio)
    )
    return AuralFeatures((first, second, third), (low, middle, high))


def read_clip(model: AuralSAM2, log_mel: LogMel, index: int, seed: int) -> Clip:
    """Compute training clip `index`: two of three clips of split "multi"."""
    frames, heard, owners = perceive(log_mel, index, seed, model.image_size)
    _, aural = model.forward_with_features(frames, heard)
    image = model.image_features(frames)
    said = track(model.v_model, image, aural, 0, model.positions(), mask_decoder.dense_positions(model.v_model))
    halved = _cast(aural, torch.float16)
    return Clip(
        ImageFeatures(*(each.half() for each in image)),
        halved,
        Tracked(*(each.half() for each in said)),
        owners,
    )


def read_clips(model: AuralSAM2, settings: Settings, report: Callable[[str], None]) -> list[Clip]:
    """Compute training clips 0 to `clips` - 1, about 15 MB each."""
    log_mel, started, found = LogMel(), time.monotonic(), list[Clip]()
    with torch.no_grad():
        for index in range(settings.clips):
            found.append(read_clip(model, log_mel, index, settings.seed))
            if index % 50 == 49:
                report(f"features   {index + 1} clips, {time.monotonic() - started:.0f} s")
    return found


class Tuner(Lesson):
    """Memory, decoder and prompt encoder learn to carry what is marked."""

    NAME, STREAM = "tracking", 12

    def __init__(self, model: AuralSAM2, clips: list[Clip], settings: Settings) -> None:
        super().__init__(model, settings)
        self.clips = clips
        self.frames = [frame for clip in clips for frame in clip.frames()]
        sam = model.v_model.requires_grad_(False)
        decoder, encoder = sam.sam_mask_decoder, sam.sam_prompt_encoder
        # What features were made with.
        still = {id(p) for module in (decoder.conv_s0, decoder.conv_s1) for p in module.parameters()}
        known = [p for p in (*decoder.parameters(), *encoder.parameters()) if id(p) not in still]
        fresh = [*sam.memory_attention.parameters(), *sam.memory_encoder.parameters(), *sam.obj_ptr_proj.parameters()]
        fresh += [sam.maskmem_tpos_enc, sam.no_obj_ptr]
        self.parameters = [p.requires_grad_(True) for p in (*known, *fresh)]
        groups = [{"params": known, "share": 0.4}, {"params": fresh, "share": 1.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=settings.learning_rate, weight_decay=0.01)

    def losses(self, rng: np.random.Generator) -> dict[str, Tensor]:
        """Compute the losses of marked things, of prompts of single frames, and of what it said to sound before."""
        single = corrected_losses(self.model, self.frames, PROMPT_BATCH, rng)
        prompts = {f"prompt_{name}": value for name, value in single.items()}
        return self.tracking_losses(rng) | prompts | self.sound_losses(rng)

    def tracking_losses(self, rng: np.random.Generator) -> dict[str, Tensor]:
        """Compute the losses of marked frames, and of the frames that things are carried to."""
        marked, carried = list[tuple[PromptedMasks, Drawn]](), list[tuple[PromptedMasks, NDArray[np.bool_]]]()
        for _ in range(TRACKED_CLIPS):
            clip, frame, drawn = self._draw(rng)
            self._carry(clip, frame, drawn, bool(rng.uniform() < MASK_SHARE), marked, carried)
        losses = prompt_losses(_stacked([masks for masks, _ in marked]), [drawn for _, drawn in marked])
        found = {f"marked_{name}": value for name, value in losses.items()}
        masks, truths = _stacked([masks for masks, _ in carried]), [truth for _, truth in carried]
        seen = torch.tensor([int(truth.sum()) >= MIN_PIXELS for truth in truths])
        present = torch.tensor([[bool(truth.any())] for truth in truths], dtype=torch.float32)
        if seen.any():
            shown = [Drawn(truth, *_NOTHING) for truth, there in zip(truths, seen, strict=True) if there]
            found |= prompt_losses(PromptedMasks(*(each[seen] for each in masks)), shown)
        found["occlusion"] = OCCLUSION_WEIGHT * F.binary_cross_entropy_with_logits(masks.object_score, present)
        return found

    def _draw(self, rng: np.random.Generator) -> tuple[Clip, int, Drawn]:
        while True:
            clip = self.clips[int(rng.integers(len(self.clips)))]
            frame = int(rng.integers(len(clip.owners)))
            drawn = draw_prompt(clip.owners[frame], rng)
            if drawn is not None:
                return clip, frame, drawn

    def _carry(
        self,
        clip: Clip,
        frame: int,
        drawn: Drawn,
        by_mask: bool,
        marked: list[tuple[PromptedMasks, Drawn]],
        carried: list[tuple[PromptedMasks, NDArray[np.bool_]]],
    ) -> None:
        sam, positions = self.model.v_model, self.model.positions()
        image = ImageFeatures(*(each.float() for each in clip.image))
        frames = FrameByFrame(sam, image, mask_decoder.dense_positions(sam))
        prompt = FramePrompt(frame, torch.from_numpy(drawn.coords), torch.from_numpy(drawn.labels))
        masks = frames.decode(frame, frames.tokens(frame) + sam.no_mem_embed[0], prompt.coords, prompt.labels, None)
        marked.append((masks, drawn))
        answer = choose(sam, masks, len(drawn.labels), prompted=True)
        if by_mask:
            truth = torch.from_numpy(drawn.truth).float()[None, None]
            given = (F.interpolate(truth, size=answer.mask.shape[-1], mode="area")[0, 0] > 0.5).float()
            nothing = torch.zeros(0, 2), torch.zeros(0)
            answer = frames.answer(FramePrompt(frame, *nothing, mask=given))
        bank = {frame: frames.remember(frame, answer)}
        num_frames, none = len(clip.owners), (torch.zeros(0, 2), torch.zeros(0))
        for reverse, order in ((False, range(frame + 1, num_frames)), (True, range(frame - 1, -1, -1))):
            for index in order:
                reading = memory.gather(sam, bank, index, (frame,), positions, reverse)
                tokens = memory.attend(sam, frames.tokens(index), reading, positions)
                masks = frames.decode(index, tokens, *none, None)
                carried.append((masks, np.isin(clip.owners[index], drawn.things)))
                answer = choose(sam, PromptedMasks(*(each.detach() for each in masks)), 0, prompted=False)
                bank[index] = frames.remember(index, answer)

    def sound_losses(self, rng: np.random.Generator) -> dict[str, Tensor]:
        """Compute how far the network is, on sound and through its memory, from what it said before."""
        sam, positions = self.model.v_model, self.model.positions()
        dense = mask_decoder.dense_positions(sam)
        pairs = list[tuple[Tracked, Tracked]]()
        for index in rng.integers(len(self.clips), size=SOUND_CLIPS):
            clip = self.clips[int(index)]
            image = ImageFeatures(*(each.float() for each in clip.image))
            says = track(sam, image, _cast(clip.aural, torch.float32), 0, positions, dense)
            pairs.append((says, Tracked(*(each.float() for each in clip.said))))
        return repetition_losses(pairs)


_NOTHING = np.empty((0, 2), np.float32), np.empty(0, np.int64)


def _stacked(masks: list[PromptedMasks]) -> PromptedMasks:
    return PromptedMasks(*(torch.cat(parts) for parts in zip(*masks, strict=True)))


def begin(model: AuralSAM2, settings: Settings, report: Report) -> Tuner:
    """Make the lesson: compute what the frozen parts make of its clips."""
    return Tuner(model, read_clips(model, settings, report), settings)


if __name__ == "__main__":
    command("auralsam2.training.after.tracking_tuning", __doc__, begin, Settings(steps=3000))
