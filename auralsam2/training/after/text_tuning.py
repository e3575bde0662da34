"""Teach a trained network to read: `python -m auralsam2.training.after.text_tuning --out runs/text`.

The fuser learns but for what no sound reaches, and with it the text encoder and the projection of its states; SAM2 and
VGGish stay as they are, so that the file holds the fuser and the encoder alone. Words first learn what they sound like
(`word_sounds`). In each step a scene is met in three ways at once: sentence and sound, a sentence without sound, and,
of every second scene, sound without a sentence, whose truth is what sounds in each frame. A quarter of the sentences
are null. In the first part of the schedule each frame is decoded by itself, in the rest through the memory. Killed at
any moment, the same command goes on.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from auralsam2.data.world.referring import POSITIVE_KINDS, draw, mask_of_sounding, mask_of_thing, say
from auralsam2.data.world.scenes import Scene, draw_scene
from auralsam2.data.world.sentences import draw_sentence
from auralsam2.model.aural_sam2 import AuralSAM2
from auralsam2.model.sounding_sam2 import ClipOutput
from auralsam2.model.with_text import VOCABULARY
from auralsam2.network import image_encoder, mask_decoder
from auralsam2.network.aural_fuser import AuralFeatures
from auralsam2.network.log_mel import LogMel
from auralsam2.network.tracker import ImageFeatures, track
from auralsam2.text.encoder import WordEncoder
from auralsam2.text.tokeniser import NUM_TOKENS, PADDING, UNKNOWN, Tokeniser
from auralsam2.training.after.lesson import Lesson, Report, Settings, command
from auralsam2.training.after.word_sounds import class_sounds, teach_words
from auralsam2.training.losses.segmentation import segmentation_loss
from auralsam2.training.run.running_statistics import RunningStatistics
from auralsam2_client.contract import WINDOW_SAMPLES

SCENES = 2
"""Of a step."""
MEMORY_SHARE = 0.25
"""Of the schedule, its end: clips are decoded through the memory."""
NULL_SHARE = 0.25
MULTI_SHARE = 0.6
GARBLED_SHARE = 0.5
"""Of the sentences in training, those with words that nobody knows, as other words than these have them."""
MAX_INSERTED = 3
TRUTH_STRIDE = 2
"""Masks are judged at half the size of the frames, twice that of the network's: a quarter of the arithmetic."""
LONE_WORDS = ("the", "shape", "that", "plain", "striped", "shaded", "speckled")
"""Words that a thing is found without: no class is twice in a scene."""


class Seen(NamedTuple):
    """What the frozen parts make of one scene."""

    scene: Scene
    patches: tuple[Tensor, Tensor, Tensor]
    first_look: Tensor
    image: ImageFeatures
    sound: Tensor
    """[T, C]."""
    owners: NDArray[np.int8]


class Variant(NamedTuple):
    """One way to meet a scene."""

    numbers: tuple[int, ...]
    heard: bool
    truth: NDArray[np.bool_]


def garble(numbers: tuple[int, ...], unneeded: frozenset[int], rng: np.random.Generator) -> tuple[int, ...]:
    """Put unknown words in place of some that are not needed, and between others."""
    words = [number for number in numbers if number != PADDING]
    words = [UNKNOWN if word in unneeded and rng.uniform() < 0.5 else word for word in words]
    for _ in range(int(rng.integers(MAX_INSERTED + 1))):
        words.insert(int(rng.integers(len(words) + 1)), UNKNOWN)
    words = words[:NUM_TOKENS]
    return (*words, *[PADDING] * (NUM_TOKENS - len(words)))


class Reader(Lesson):
    """Fuser, projection and text encoder learn what sentences refer to."""

    NAME, STREAM = "text", 31

    def __init__(self, model: AuralSAM2, settings: Settings) -> None:
        torch.manual_seed(settings.seed)
        reading = AuralSAM2.from_preset(model.preset.name, model.image_size, text=True)
        reading.load_state_dict(model.state_dict(), strict=False)  # all but the projection
        super().__init__(reading, settings)
        fuser = reading.aural_fuser
        assert fuser.text_proj is not None
        self.tokenise, self.log_mel = Tokeniser(), LogMel()
        self.encoder = WordEncoder(self.tokenise.num_words, model.preset.text_width)
        self.statistics = RunningStatistics(fuser)
        self._unneeded = frozenset(self.tokenise(" ".join(LONE_WORDS))) - {PADDING}
        self.silence = self.log_mel(torch.zeros(1, WINDOW_SAMPLES, 2))
        reading.requires_grad_(False)
        self._position = image_encoder.position_embedding(reading.v_model.image_encoder.trunk, reading.image_size)
        fresh = [*fuser.text_proj.parameters(), *self.encoder.parameters()]
        parts: tuple[nn.Module, ...] = (
            *fuser.f_blocks[1:].children(),
            fuser.a_blocks,
            fuser.fusion_modules,
            fuser.smooth_convs,
        )
        known = [parameter for part in parts for parameter in part.parameters()]
        self.parameters = [*known, *fresh]
        for parameter in self.parameters:
            parameter.requires_grad_(True)
        groups = [{"params": known, "share": 0.25}, {"params": fresh, "share": 0.3}]
        self.optimiser = torch.optim.AdamW(groups, lr=settings.learning_rate, weight_decay=0.01)

    def learn_words(self) -> float:
        """Teach the text encoder, without pictures, what sentences name; return the last loss."""
        fuser, seed = self.model.aural_fuser, self.settings.seed
        assert fuser.text_proj is not None
        return teach_words(self.encoder, fuser.text_proj, class_sounds(fuser.vgg, self.log_mel, seed), seed)

    def state(self) -> dict[str, Any]:
        """Collect all that a resumed run needs."""
        return {
            "step": self.step,
            "fuser": self.model.aural_fuser.state_dict(),
            "encoder": self.encoder.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        self.model.aural_fuser.load_state_dict(state["fuser"])
        self.encoder.load_state_dict(state["encoder"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = int(state["step"])

    def weights(self) -> dict[str, Tensor]:
        """Give the fuser and the text encoder; SAM2 is that of the file that the lesson began with."""
        fuser = {f"aural_fuser.{key}": value for key, value in self.model.aural_fuser.state_dict().items()}
        return fuser | {f"t_model.{key}": value for key, value in self.encoder.state_dict().items()}

    def about(self) -> dict[str, str]:
        """Tell what every lesson does, and the words of the encoder, in the order of their numbers."""
        return super().about() | {VOCABULARY: " ".join(self.tokenise.vocabulary)}

    def update(self) -> None:
        """Take the optimiser's step; batch norm's statistics follow what passed."""
        super().update()
        self.statistics.update()

    def losses(self, rng: np.random.Generator) -> dict[str, Tensor]:
        """Compute the losses of SCENES scenes, each in all its variants, by what is met."""
        found: dict[str, list[Tensor]] = {}
        for place, own in enumerate(rng.spawn(SCENES)):
            for name, loss in self.scene_losses(own, wordless=place == 0).items():
                found.setdefault(name, []).append(loss)
        return {name: torch.stack(values).mean() / len(found) for name, values in found.items()}

    def scene_losses(self, rng: np.random.Generator, *, wordless: bool) -> dict[str, Tensor]:
        """Draw a scene and compute its losses by what is met; without a sentence only where `wordless`."""
        scene = draw_scene(
            "multi" if rng.uniform() < MULTI_SHARE else "single",
            "train",
            self.settings.seed,
            int(rng.integers(self.settings.clips)),
        )
        seen = self._see(scene)
        variants = self._variants(seen, wordless, rng)
        return {name: self._loss(seen, variant) for name, variant in variants.items()}

    @torch.no_grad()
    def _see(self, scene: Scene) -> Seen:
        fuser, drawn = self.model.aural_fuser, draw(scene, self.model.image_size)
        sam, decoder = self.model.v_model, self.model.v_model.sam_mask_decoder
        fpn = image_encoder.pyramid(sam, image_encoder.normalise(torch.from_numpy(drawn.frames)), self._position)
        image = ImageFeatures(decoder.conv_s0(fpn[0]), decoder.conv_s1(fpn[1]), fpn[2])
        patches = fuser.patches(0, fpn[0]), fuser.patches(1, fpn[1]), fuser.patches(2, fpn[2])
        sound = fuser.vgg(self.log_mel(torch.from_numpy(drawn.windows)))
        return Seen(scene, patches, fuser.look(0, patches[0]), image, sound, drawn.owners)

    def _variants(self, seen: Seen, wordless: bool, rng: np.random.Generator) -> dict[str, Variant]:
        found = {"both": self._said(seen, rng, True), "text": self._said(seen, rng, False)}
        if wordless:
            found["sound"] = Variant(self.tokenise(""), True, mask_of_sounding(seen.owners, seen.scene))
        return found

    def _said(self, seen: Seen, rng: np.random.Generator, heard: bool) -> Variant:
        sentence = None
        if rng.uniform() < NULL_SHARE:
            sentence = draw_sentence(seen.scene, rng, "null")
        if sentence is None:
            sentence = say(seen.scene, rng, int(rng.integers(len(POSITIVE_KINDS))))
        numbers = self.tokenise(sentence.words)
        if rng.uniform() < GARBLED_SHARE:
            numbers = garble(numbers, self._unneeded, rng)
        return Variant(numbers, heard, mask_of_thing(seen.owners, sentence.thing))

    def _loss(self, seen: Seen, variant: Variant) -> Tensor:
        fuser = self.model.aural_fuser
        assert fuser.text_proj is not None
        words = fuser.text_proj(self.encoder(torch.tensor([variant.numbers]))[0])
        sound = seen.sound if variant.heard else self._silent_tokens(len(seen.sound))
        aural = fuser(seen.patches, torch.cat([sound, words]), seen.first_look)
        output = self._decode(seen.image, aural)
        truth = F.avg_pool2d(torch.from_numpy(variant.truth).float()[:, None], TRUTH_STRIDE)[:, 0]
        return segmentation_loss(output, (truth > 0.5).float()).total

    @torch.no_grad()
    def _silent_tokens(self, count: int) -> Tensor:
        tokens: Tensor = self.model.aural_fuser.vgg(self.silence)
        return tokens.expand(count, -1)

    def _decode(self, image: ImageFeatures, aural: AuralFeatures) -> ClipOutput:
        sam, num_frames = self.model.v_model, len(image.embedding)
        dense = mask_decoder.dense_positions(sam)
        if self.step >= (1 - MEMORY_SHARE) * self.settings.steps:
            return ClipOutput(*track(sam, image, aural, num_frames // 2, self.model.positions(), dense))
        frames = [
            mask_decoder.decode(
                sam,
                image.embedding[t].flatten(1).T + sam.no_mem_embed[0],
                (image.high_res_s4[t : t + 1], image.high_res_s8[t : t + 1]),
                [visual[t].flatten(1).T for visual in aural.visual],
                [audio[t : t + 1] for audio in aural.audio],
                dense,
            )
            for t in range(num_frames)
        ]
        logits, iou, score, _ = (torch.cat(parts) for parts in zip(*frames, strict=True))
        return ClipOutput(logits, iou, score, score)


def begin(model: AuralSAM2, settings: Settings, report: Report) -> Reader:
    """Make the lesson: words first learn what they sound like."""
    reader = Reader(model, settings)
    report(f"words      loss {reader.learn_words():.3f} of their sounds' variance")
    return reader


if __name__ == "__main__":
    command("auralsam2.training.after.text_tuning", __doc__, begin, Settings(clips=20000, steps=2000))
