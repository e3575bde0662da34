"""Give words a meaning before they meet pictures: a sentence begins as what the thing that it names sounds like.

The fuser knows the tokens of sounds. Untaught, the tokens of words fall into one direction that says no more than that
there are words, and what tells one word from another is lost in it; so the text encoder first learns, without pictures,
to give for every sentence that names a class, by its shape or by its verb, VGGish's token of that class.
"""

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from auralsam2.data.world.scenes import draw_scene, play
from auralsam2.data.world.sentences import KINDS, VERBS, draw_sentence
from auralsam2.data.world.shapes import SHAPES, Shape
from auralsam2.network.log_mel import LogMel
from auralsam2.network.vggish import VGGish
from auralsam2.text.encoder import WordEncoder
from auralsam2.text.tokeniser import Tokeniser
from auralsam2_client.media.sound_windows import clip_windows

NUM_SCENES, NUM_STEPS, BATCH = 60, 300, 48
LEARNING_RATE = 1e-3
_NAMES: Mapping[str, Shape] = {**{shape: shape for shape in SHAPES}, **{verb: shape for shape, verb in VERBS.items()}}
_STREAM = 37


def class_named_by(words: str) -> Shape | None:
    """Tell the class that a sentence names, by its shape or by its verb; None where it names none."""
    return next((_NAMES[word] for word in words.split() if word in _NAMES), None)


@torch.no_grad()
def class_sounds(vgg: VGGish, log_mel: LogMel, seed: int) -> dict[Shape, Tensor]:
    """Average VGGish's tokens [C] of the seconds of training scenes in which a class sounds alone."""
    found: dict[Shape, list[Tensor]] = {}
    for index in range(NUM_SCENES):
        scene = draw_scene("single", "train", seed, index)
        tokens = vgg(log_mel(torch.from_numpy(clip_windows(play(scene), scene.num_frames))))
        for second, number in zip(*np.nonzero(scene.sounding), strict=True):
            found.setdefault(scene.things[number].shape, []).append(tokens[second])
    return {shape: torch.stack(tokens).mean(0) for shape, tokens in found.items()}


def teach_words(
    encoder: WordEncoder, projection: nn.Module, sounds: Mapping[Shape, Tensor], seed: int, steps: int = NUM_STEPS
) -> float:
    """Teach encoder and projection the sounds of what sentences name; return the last loss, 1 where nothing is known.

    Args:
        sounds: of `class_sounds`.
        seed: of the sentences.
    """
    tokenise = Tokeniser()
    scale = torch.stack(list(sounds.values())).var(0).mean()
    optimiser = torch.optim.AdamW([*encoder.parameters(), *projection.parameters()], lr=LEARNING_RATE)
    scenes = [draw_scene("multi", "train", seed, index) for index in range(NUM_SCENES)]
    loss = torch.zeros(())
    for step in range(steps):
        rng = np.random.default_rng([seed, _STREAM, step])
        numbers, wanted = list[tuple[int, ...]](), list[Tensor]()
        while len(numbers) < BATCH:
            sentence = draw_sentence(scenes[int(rng.integers(NUM_SCENES))], rng, KINDS[int(rng.integers(len(KINDS)))])
            shape = None if sentence is None else class_named_by(sentence.words)
            if sentence is not None and shape is not None and shape in sounds:
                numbers.append(tokenise(sentence.words))
                wanted.append(sounds[shape])
        tokens = projection(encoder(torch.tensor(numbers)))  # [B, 25, C]
        loss = F.mse_loss(tokens, torch.stack(wanted)[:, None].expand_as(tokens)) / scale
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return float(loss.detach())
