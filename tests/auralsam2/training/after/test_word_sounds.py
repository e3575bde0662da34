"""Words begin as what they name sounds like: which class a sentence names, and that it is learned."""

import pytest
import torch

from auralsam2.data.world.sentences import VERBS
from auralsam2.data.world.shapes import SHAPES, Shape
from auralsam2.model.loading import load_network
from auralsam2.network.log_mel import LogMel
from auralsam2.text.encoder import WordEncoder
from auralsam2.text.tokeniser import Tokeniser
from auralsam2.training.after import word_sounds
from auralsam2.training.after.word_sounds import class_named_by, class_sounds, teach_words


@pytest.mark.parametrize("shape", SHAPES)
def test_a_class_is_named_by_its_shape_or_its_verb(shape: Shape) -> None:
    assert class_named_by(f"the striped {shape}") == class_named_by(f"the shape that {VERBS[shape]}") == shape


def test_place_and_sounding_name_none() -> None:
    assert class_named_by("the leftmost shape") is None
    assert class_named_by("the shape that sounds") is None


def test_classes_sound_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_sounds, "NUM_SCENES", 12)
    sounds = class_sounds(load_network("compact")[0].aural_fuser.vgg, LogMel(), 0)
    assert set(sounds) <= set(SHAPES)
    assert len(sounds) > 2
    tokens = list(sounds.values())
    for first, one in enumerate(tokens):
        for other in tokens[:first]:
            assert (one - other).norm() > 0.3 * one.norm()


def test_words_come_to_sound_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_sounds, "BATCH", 6)
    monkeypatch.setattr(word_sounds, "LEARNING_RATE", 5e-3)
    torch.manual_seed(0)
    tokenise = Tokeniser()
    encoder, projection = WordEncoder(tokenise.num_words, 32), torch.nn.Linear(32, 16)
    sounds = {shape: torch.randn(16) for shape in SHAPES}
    with torch.enable_grad():
        assert teach_words(encoder, projection, sounds, 0, 60) < 0.5
    star, disc = (projection(encoder(torch.tensor([tokenise(f"the plain {shape}")]))) for shape in ("star", "disc"))
    assert (star - disc).norm() > 0.5 * star.norm()
