"""Weights go into a network all or none. What does not fit is named, and the network stays as it was."""

from collections.abc import Callable
from pathlib import Path

import hydra.utils
import pytest
import sam2
import torch
from omegaconf import OmegaConf

from auralsam2 import AuralSAM2, checkpoints
from auralsam2.errors import CheckpointError
from tests.auralsam2.checkpoints.forms import (
    State,
    assert_loaded,
    assert_same,
    fuser_alone,
    in_lists,
    prefixed,
    with_lists,
    without_text_model,
    wrapped,
)


@pytest.mark.parametrize(
    "form",
    [
        dict,
        without_text_model,
        in_lists,
        with_lists,
        lambda state: prefixed(in_lists(state, owner="audio_prompter.")),
        wrapped("module.", "model."),
    ],
)
def test_a_ref_avs_file_loads(ref_avs: State, form: Callable[[State], State]) -> None:
    model = AuralSAM2.from_preset("compact", text=True)
    model.load_released(form(ref_avs))
    loaded = model.state_dict()
    assert loaded.keys() == without_text_model(ref_avs).keys()
    assert_same(loaded, without_text_model(ref_avs))
    assert not any(part.training for part in model.modules())
    assert checkpoints.reads_text(form(ref_avs))


def test_heads_of_either_form_follow_each_other(ref_avs: State, filled: State) -> None:
    model = AuralSAM2.from_preset("compact", text=True)
    words = {key: value for key, value in ref_avs.items() if ".text_proj." in key}
    for state in (filled | words, ref_avs, filled | words):
        model.load_released(state)
        assert_same(model.state_dict(), without_text_model(state))


def test_a_refused_file_leaves_the_heads_as_they_were(ref_avs: State, model: AuralSAM2, filled: State) -> None:
    model.load_released(filled)
    with pytest.raises(CheckpointError, match=r"4 unexpected: aural_fuser\.text_proj\.0\.bias"):
        model.load_released(ref_avs)
    assert_same(model.state_dict(), filled)


def test_the_contrastive_heads_are_not_read(ref_avs: State) -> None:
    model = AuralSAM2.from_preset("compact", 224, text=True)
    model.load_released(ref_avs)
    draw = torch.Generator().manual_seed(0)
    clip = torch.randn(2, 3, 224, 224, generator=draw), torch.randn(2, 2, 96, 64, generator=draw)
    words = torch.randn(1, 25, 128, generator=draw)
    wanted = model(*clip, words)
    for head in (model.aural_fuser.train_proj_v1, model.aural_fuser.train_proj_a1):
        for parameter in head.parameters():
            parameter.fill_(torch.nan)
    assert torch.equal(model(*clip, words).low_res_logits, wanted.low_res_logits)


def test_without_the_batch_counters_of_newer_pytorch(model: AuralSAM2, filled: State) -> None:
    model.load_released({k: v for k, v in filled.items() if not k.endswith("num_batches_tracked")})
    assert torch.equal(model.v_model.no_mem_embed, filled["v_model.no_mem_embed"])


def test_sam2_s_own_file() -> None:
    """The names of SAM2's file are those of its own network, built from its own configuration."""
    config = OmegaConf.load(Path(sam2.__file__).parent / "configs/sam2/sam2_hiera_t.yaml")
    config.model.image_size = 224
    own = hydra.utils.instantiate(config.model, _recursive_=True).state_dict()
    model = AuralSAM2.from_preset("hiera_tiny", 224)
    checkpoints.load_sam2(model, prefixed(own))
    for key, value in model.v_model.state_dict().items():
        assert torch.equal(value, own[key]), key
    with pytest.raises(CheckpointError, match=r"SAM2 checkpoint \(preset compact\) does not fit"):
        checkpoints.load_sam2(AuralSAM2.from_preset("compact"), own)


def test_vggish_s_own_file(model: AuralSAM2, filled: State) -> None:
    prefix = "aural_fuser.vgg."
    own = {key.removeprefix(prefix): value for key, value in filled.items() if key.startswith(prefix)}
    checkpoints.load_vggish(model, {**own, "pproc.pca_eigen_vectors": torch.eye(128)})
    assert_loaded(model, filled, prefix)


def test_every_kind_of_misfit_is_named_and_nothing_is_loaded(model: AuralSAM2, filled: State) -> None:
    state = dict(filled)
    del state["v_model.no_mem_embed"]
    state["v_model.stranger"] = torch.zeros(1)
    state["aural_fuser.vgg.features.0.weight"] = torch.ones(5, 1, 3, 3)
    with pytest.raises(CheckpointError) as caught:
        model.load_released(state)
    message = str(caught.value)
    assert "1 missing: v_model.no_mem_embed" in message
    assert "1 unexpected: v_model.stranger" in message
    assert "1 misshapen: aural_fuser.vgg.features.0.weight is [5, 1, 3, 3], must be [16, 1, 3, 3]" in message
    assert "preset compact" in message
    assert all(not value.any() for value in model.state_dict().values())


@pytest.mark.parametrize("form", [dict, fuser_alone])
def test_a_checkpoint_of_another_preset(
    model: AuralSAM2, released_shapes: dict[str, dict[str, tuple[int, ...]]], form: Callable[[State], State]
) -> None:
    other = {k: torch.empty(shape, device="meta") for k, shape in released_shapes["hiera_tiny"].items()}
    with pytest.raises(CheckpointError, match=r"and \d+ more.*Is it a checkpoint of another preset\?"):
        model.load_released(form(other))
    assert all(not value.any() for value in model.state_dict().values())


def test_a_text_form_needs_its_text_projection(filled: State) -> None:
    with pytest.raises(CheckpointError, match=r"4 missing: aural_fuser\.text_proj\.0\.bias"):
        AuralSAM2.from_preset("compact", text=True).load_released(filled)
