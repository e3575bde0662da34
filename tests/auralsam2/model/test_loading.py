"""One way from checkpoints to a network: shipped weights, a whole file, a fuser's file beside SAM2's own."""

from pathlib import Path

import pytest
import torch

from auralsam2 import AuralSAM2
from auralsam2.errors import CheckpointError, NetworkError
from auralsam2.model.loading import load_network
from auralsam2.model.parity_weights import parity_state
from auralsam2.model.shipped import fingerprint, shipped_weights
from auralsam2.model.sounding_sam2 import SoundingSAM2


def filled(text: bool) -> AuralSAM2:
    model = AuralSAM2.from_preset("compact", 224, text=text)
    model.load_released(parity_state(model, 7))
    return model


def assert_same(found: SoundingSAM2, wanted: SoundingSAM2) -> None:
    states = found.state_dict(), wanted.state_dict()
    assert states[0].keys() == states[1].keys()
    assert [name for name, value in states[0].items() if not torch.equal(value, states[1][name])] == []


def test_a_preset_without_shipped_weights_asks_for_some() -> None:
    with pytest.raises(CheckpointError, match=r"no weights are shipped for preset 'hiera_tiny'.*--checkpoint"):
        load_network("hiera_tiny")


def test_an_unknown_method_is_named_with_those_that_are_known() -> None:
    with pytest.raises(NetworkError, match="'avs' is unknown; choose one of auralsam2, gavs, sama_avs"):
        load_network("compact", method="avs")


def test_adapters_are_loaded_on_the_sam2_of_the_shipped_network() -> None:
    model, about = load_network("compact", 224, method="gavs")
    path = shipped_weights("compact", "gavs")
    assert path is not None
    assert (model.method, about) == ("gavs", f"shipped weights {fingerprint(path)}")
    shared, own = load_network("compact", 224)[0].v_model.state_dict(), model.v_model.state_dict()
    assert all(torch.equal(own[name], value) for name, value in shared.items())


def test_shipped_weights_are_told_by_their_fingerprint() -> None:
    path = shipped_weights("compact")
    assert path is not None
    assert load_network("compact", 224)[1] == f"shipped weights {fingerprint(path)}"


@pytest.mark.parametrize("text", [False, True])
def test_a_whole_file_brings_what_it_holds_text_or_none(tmp_path: Path, text: bool) -> None:
    wanted = filled(text)
    torch.save(wanted.state_dict(), tmp_path / "whole.pth")
    found, about = load_network("compact", 224, str(tmp_path / "whole.pth"))
    assert about == "weights whole.pth"
    assert found.reads_text == text
    assert_same(found, wanted)


def test_a_fuser_alone_takes_sam2_from_its_own_file_and_asks_for_it(tmp_path: Path) -> None:
    wanted = filled(text=False)
    fuser, sam2 = tmp_path / "fuser.pth", tmp_path / "sam2.pt"
    torch.save(wanted.aural_fuser.state_dict(), fuser)
    torch.save({"model": wanted.v_model.state_dict()}, sam2)
    assert_same(load_network("compact", 224, str(fuser), str(sam2))[0], wanted)
    with pytest.raises(CheckpointError, match=r"fuser\.pth holds the fuser alone; give .* --sam2-checkpoint"):
        load_network("compact", 224, str(fuser))
