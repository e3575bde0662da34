"""States of words: of the right shape, by word and by place, whatever stands beside them in a batch."""

import torch

from auralsam2.presets import PRESETS
from auralsam2.text.encoder import WordEncoder
from auralsam2.text.tokeniser import NUM_TOKENS, Tokeniser

WIDTH = PRESETS["compact"].text_width


def test_states_tell_words_places_and_nothing_apart() -> None:
    torch.manual_seed(0)
    tokenise = Tokeniser()
    encoder = WordEncoder(tokenise.num_words, WIDTH)
    sentences = ("the star", "star the", "the disc", "")
    states = encoder(torch.tensor([tokenise(sentence) for sentence in sentences]))
    assert states.shape == (len(sentences), NUM_TOKENS, WIDTH)
    for first in range(len(sentences)):
        for second in range(first):
            # The first word's state, and that of padding, which has attended to it.
            assert ((states[first] - states[second]).abs().amax(1)[[0, -1]] > 1e-3).all()
    alone = encoder(torch.tensor([tokenise(sentences[2])]))
    torch.testing.assert_close(states[2:3], alone, rtol=1e-4, atol=1e-5)


def test_a_state_is_as_wide_as_the_preset_s_projection_takes() -> None:
    widths = {name: (preset.text_width, preset.text_hidden) for name, preset in PRESETS.items()}
    assert widths.pop("compact") == (128, 256)
    assert set(widths.values()) == {(768, 1024)}, "DistilRoBERTa's, as released"
