"""Teach a trained network SAM2's own prompts: `python -m auralsam2.training.after.prompt_tuning --out runs/prompts`.

The decoder and the prompt encoder learn; image encoder, fuser, memory and pointers stay as they are, so that features
are computed once. In every step the decoder also repeats, on sound, what it said before, so that sound keeps its
quality; `auralsam2 evaluate` before and after tells. Killed at any moment, the same command goes on.
Half of the prompts are corrected: the click that a person would set next, with the logits of the round before.
"""

import numpy as np
import torch
from torch import Tensor

from auralsam2.model.aural_sam2 import AuralSAM2
from auralsam2.network import mask_decoder
from auralsam2.network.mask_decoder import FrameMasks
from auralsam2.training.after.corrected_prompts import corrected_losses
from auralsam2.training.after.lesson import Lesson, Report, Settings, command
from auralsam2.training.after.prompt_examples import Features, cache
from auralsam2.training.after.repetition import repetition_losses

PROMPT_BATCH, SOUND_BATCH = 12, 6


class Tuner(Lesson):
    """Decoder and prompt encoder learn prompts of single frames."""

    NAME, STREAM = "prompt", 11

    def __init__(self, model: AuralSAM2, features: list[Features], settings: Settings) -> None:
        super().__init__(model, settings)
        self.features = features
        sam = model.v_model.requires_grad_(False)
        decoder, encoder = sam.sam_mask_decoder, sam.sam_prompt_encoder
        learning = [*decoder.parameters(), *encoder.parameters()]
        # What sound reads beside the decoder, or features were made with.
        still = {
            id(p) for module in (decoder.conv_s0, decoder.conv_s1, encoder.no_mask_embed) for p in module.parameters()
        }
        self.parameters = [p.requires_grad_(True) for p in learning if id(p) not in still]
        fresh = {id(p) for p in sam.sam_prompt_encoder.parameters()}
        self.optimiser = torch.optim.AdamW(
            [
                {"params": [p for p in self.parameters if id(p) not in fresh], "share": 1.0},
                {"params": [p for p in self.parameters if id(p) in fresh], "share": 4.0},
            ],
            lr=settings.learning_rate,
            weight_decay=0.01,
        )

    def losses(self, rng: np.random.Generator) -> dict[str, Tensor]:
        """Compute the losses of drawn prompts, and how far the decoder is from what it said to sound."""
        return self._prompt_losses(rng) | self._sound_losses(rng)

    def _prompt_losses(self, rng: np.random.Generator) -> dict[str, Tensor]:
        return corrected_losses(self.model, self.features, PROMPT_BATCH, rng)

    def _sound_losses(self, rng: np.random.Generator) -> dict[str, Tensor]:
        """How far the decoder is, on sound, from what it said before."""
        sam = self.model.v_model
        positions = mask_decoder.dense_positions(sam)
        pairs = list[tuple[FrameMasks, FrameMasks]]()
        for index in rng.integers(len(self.features), size=SOUND_BATCH):
            frame = self.features[int(index)]
            said = mask_decoder.decode(
                sam,
                frame.conditioned.float(),
                (frame.high_res_s4[None].float(), frame.high_res_s8[None].float()),
                list(frame.visual.float()),
                [a[None] for a in frame.audio.float()],
                positions,
            )
            before = FrameMasks(frame.logits[None].float(), frame.iou[None], frame.score[None], said.tokens)
            pairs.append((said, before))
        return repetition_losses(pairs)


def begin(model: AuralSAM2, settings: Settings, report: Report) -> Tuner:
    """Make the lesson: compute what the frozen parts make of its clips."""
    return Tuner(model, cache(model, settings.clips, settings.seed, report), settings)


if __name__ == "__main__":
    command("auralsam2.training.after.prompt_tuning", __doc__, begin, Settings())
