"""Learning to read: what may change, that it learns, what its file holds, that unknown words stand in for others."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch

from auralsam2 import checkpoints
from auralsam2.model.loading import load_aural_sam2
from auralsam2.network.tracker import Tracked, track
from auralsam2.text.tokeniser import NUM_TOKENS, PADDING, UNKNOWN, VOCABULARY, Tokeniser
from auralsam2.training.after import text_tuning
from auralsam2.training.after.lesson import Settings
from auralsam2.training.after.text_tuning import LONE_WORDS, Reader, garble

SETTINGS = Settings(clips=1, steps=20, learning_rate=1e-3)
STAYS = ("vgg.", "patch_embeds.", "f_blocks.0.", "train_proj_")


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    monkeypatch.setattr(text_tuning, "SCENES", 1)
    with torch.enable_grad():
        yield Reader(load_aural_sam2("compact")[0], SETTINGS)


def test_what_reads_learns_and_what_is_shared_with_the_other_file_stays(reader: Reader) -> None:
    sam = {key: value.clone() for key, value in reader.model.v_model.state_dict().items()}
    before = {key: value.clone() for key, value in reader.weights().items()}
    for _ in range(2):
        losses = reader.advance()
        assert set(losses) == {"both", "text", "sound"}
        assert np.isfinite(list(losses.values())).all()
    assert all(torch.equal(value, sam[key]) for key, value in reader.model.v_model.state_dict().items())
    changed = {key for key, value in reader.weights().items() if not torch.equal(value, before[key])}
    assert {
        "aural_fuser.text_proj.0.weight",
        "t_model.words.weight",
        "aural_fuser.a_blocks.0.0.attn.q.weight",
    } <= changed
    assert "aural_fuser.fusion_modules.0.W_z.1.running_mean" in changed
    assert not [key for key in changed if key.removeprefix("aural_fuser.").startswith(STAYS)]


def test_it_goes_on_where_it_was(reader: Reader) -> None:
    reader.advance()
    other = Reader(load_aural_sam2("compact")[0], SETTINGS)
    other.restore(deepcopy(reader.state()))
    assert reader.advance() == other.advance()
    assert all(torch.equal(value, other.weights()[key]) for key, value in reader.weights().items())


def test_frames_are_decoded_by_themselves_first_and_through_the_memory_last(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    conditioned: list[int] = []

    def watched(*given: Any) -> Tracked:
        conditioned.append(given[3])
        return track(*given)

    monkeypatch.setattr(text_tuning, "track", watched)
    reader.losses(np.random.default_rng(0))
    assert conditioned == []
    reader.step = SETTINGS.steps - 1
    reader.losses(np.random.default_rng(0))
    assert conditioned == [2, 2, 2], "the middle frame of five, as Ref-AVS has it"


def test_the_file_is_a_fuser_with_its_text_encoder(reader: Reader) -> None:
    state = reader.weights()
    assert not checkpoints.is_whole(state)
    assert checkpoints.reads_text(state)
    assert checkpoints.text_model(state).keys() == reader.encoder.state_dict().keys()
    about = reader.about()
    assert about["vocabulary"] == " ".join(VOCABULARY)
    assert (about["preset"], about["trained_on"]) == ("compact", "procedural world")


def test_unknown_words_take_the_place_of_those_that_are_not_needed() -> None:
    tokenise = Tokeniser()
    unneeded = frozenset(tokenise(" ".join(LONE_WORDS))) - {PADDING}
    said = tokenise("the striped star")
    star = said[2]
    found = {garble(said, unneeded, np.random.default_rng(seed)) for seed in range(60)}
    assert all(len(numbers) == NUM_TOKENS for numbers in found)
    assert all(numbers.count(star) == 1 for numbers in found)
    assert {numbers.count(UNKNOWN) for numbers in found} == {0, 1, 2, 3, 4, 5}
    assert len({numbers.index(star) for numbers in found}) > 3
    full = tokenise("star " * NUM_TOKENS)
    assert all(len(garble(full, unneeded, np.random.default_rng(seed))) == NUM_TOKENS for seed in range(5))
