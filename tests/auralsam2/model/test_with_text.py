"""A network that reads, from two files: SAM2's part from one, fuser and text encoder from the other."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from auralsam2 import AuralSAM2
from auralsam2.errors import CheckpointError
from auralsam2.model.loading import load_network
from auralsam2.model.parity_weights import parity_state
from auralsam2.model.with_text import VOCABULARY, load_with_text
from auralsam2.text.encoder import WordEncoder
from auralsam2.text.tokeniser import Tokeniser

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def state() -> State:
    """As the text lesson writes it."""
    torch.manual_seed(5)
    tokenise, model = Tokeniser(), AuralSAM2.from_preset("compact", text=True)
    fuser = {key: value for key, value in parity_state(model, 3).items() if key.startswith("aural_fuser.")}
    encoder = WordEncoder(tokenise.num_words, model.preset.text_width)
    return fuser | {f"t_model.{key}": value.detach() for key, value in encoder.state_dict().items()}


def written(state: State, path: Path, words: str | None = " ".join(Tokeniser().vocabulary)) -> str:
    save_file(state, path, metadata=None if words is None else {VOCABULARY: words})
    return str(path)


def test_fuser_and_encoder_come_from_the_file_and_sam2_from_the_shipped_one(state: State, tmp_path: Path) -> None:
    model, encode, about = load_with_text(checkpoint=written(state, tmp_path / "reads.safetensors"))
    assert about == f"weights {tmp_path / 'reads.safetensors'}"
    whole = model.state_dict()
    assert all(torch.equal(whole[key], value) for key, value in state.items() if key.startswith("aural_fuser."))
    shipped = load_network("compact")[0].v_model.state_dict()
    assert all(torch.equal(whole[f"v_model.{key}"], value) for key, value in shipped.items())
    states = encode("the star")
    assert states.shape == (1, 25, model.preset.text_width)
    assert torch.equal(states, encode("The star!"))
    assert not torch.equal(states, encode(""))
    for key, value in encode.network.state_dict().items():
        assert torch.equal(value, state[f"t_model.{key}"])


def test_what_does_not_fit_is_named(state: State, tmp_path: Path) -> None:
    other = written(state, tmp_path / "other.safetensors", "the star")
    with pytest.raises(CheckpointError, match=r"trained on other words than this version numbers: the star\."):
        load_with_text(checkpoint=other)
    mute = {key: value for key, value in state.items() if not key.startswith("t_model.")}
    with pytest.raises(CheckpointError, match=r"the text encoder of .*mute\.safetensors does not fit\. \d+ missing: "):
        load_with_text(checkpoint=written(mute, tmp_path / "mute.safetensors"))
    short = state | {"t_model.words.weight": torch.zeros(3, 128)}
    with pytest.raises(CheckpointError, match=r"words\.weight is \[3, 128\], must be \[26, 128\]"):
        load_with_text(checkpoint=written(short, tmp_path / "short.safetensors", None))


def test_a_preset_without_shipped_weights_asks_for_some() -> None:
    with pytest.raises(CheckpointError, match="no weights that read are shipped for preset 'hiera_tiny'"):
        load_with_text("hiera_tiny")
