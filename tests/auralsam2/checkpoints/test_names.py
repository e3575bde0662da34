"""Whatever names a released checkpoint gives its tensors, they are told apart and brought to one set."""

import logging
import re
from collections.abc import Callable

import pytest
import torch

from auralsam2 import AuralSAM2, checkpoints
from auralsam2.errors import CheckpointError
from auralsam2.network.aural_fuser import AuralFuser
from auralsam2.presets import preset
from tests.auralsam2.checkpoints.forms import (
    FUSER,
    State,
    assert_loaded,
    assert_same,
    fuser_alone,
    in_lists,
    older,
    prefixed,
    with_lists,
    wrapped,
)


@pytest.mark.parametrize(
    "form",
    [
        dict,
        older,
        prefixed,
        lambda state: prefixed(older(state)),
        wrapped("_orig_mod."),
        wrapped("module.", "_orig_mod."),
        wrapped("_orig_mod.", "module.", "model."),
        wrapped("model.", "_orig_mod.", "module."),
        lambda state: {key.replace(FUSER, f"{FUSER}_orig_mod.module."): value for key, value in state.items()},
        lambda state: prefixed(state) | state,
        in_lists,
        with_lists,
        lambda state: prefixed(in_lists(state, owner="audio_prompter.")),
    ],
)
def test_the_whole_network(model: AuralSAM2, filled: State, form: Callable[[State], State]) -> None:
    model.load_released(form(filled))
    assert_loaded(model, filled)
    assert checkpoints.is_whole(form(filled))


@pytest.mark.parametrize(
    "form",
    [
        fuser_alone,
        lambda state: older({k: v for k, v in state.items() if k.startswith(FUSER)}),
        lambda state: {k: v for k, v in state.items() if k.startswith(FUSER)},
        lambda state: prefixed(fuser_alone(state)),
        lambda state: wrapped("model.", "module.")(fuser_alone(state)),
        lambda state: in_lists({k: v for k, v in state.items() if k.startswith(FUSER)}, owner=""),
    ],
)
def test_the_fuser_alone(model: AuralSAM2, filled: State, form: Callable[[State], State]) -> None:
    model.load_released(form(filled))
    assert_loaded(model, filled, FUSER)
    assert not checkpoints.is_whole(form(filled))


@pytest.mark.parametrize("form", ["whole", "listed"])
def test_the_keys_of_ref_avs_files(
    ref_avs_shapes: dict[str, dict[str, tuple[int, ...]]],
    released_shapes: dict[str, dict[str, tuple[int, ...]]],
    form: str,
) -> None:
    held = {key: torch.zeros(()).expand(shape) for key, shape in ref_avs_shapes[form].items()}
    with torch.device("meta"):
        fuser = AuralFuser(preset("hiera_large"), 1024, True, "released")
        fuser.train_proj_v1, fuser.train_proj_a1 = fuser.new_heads("linear")
    wanted = {key: shape for key, shape in released_shapes["hiera_large"].items() if key.startswith("v_model.")}
    wanted |= {FUSER + key: tuple(value.shape) for key, value in fuser.state_dict().items()}
    assert {key: value.shape for key, value in checkpoints.current_names(held).items()} == wanted
    # DistilRoBERTa: embeddings, six layers, pooler.
    words = checkpoints.text_model(held)
    assert len(words) == 5 + 6 * 16 + 2
    assert words["encoder.layer.5.output.dense.weight"].shape == (768, 3072)
    assert checkpoints.reads_text(held)
    assert checkpoints.is_whole(held)


def test_the_text_model_is_kept_apart_and_named(
    ref_avs: State, model: AuralSAM2, filled: State, caplog: pytest.LogCaptureFixture
) -> None:
    assert_same(checkpoints.text_model(prefixed(ref_avs)), {"pooler.dense.weight": torch.ones(4, 4)})
    assert not any("t_model" in key for key in checkpoints.current_names(ref_avs))
    assert checkpoints.text_model(filled) == {}
    with caplog.at_level(logging.INFO):
        model.load_released(filled | {"t_model.pooler.dense.weight": torch.ones(4, 4)})
    assert "t_model.*, 1 tensors" in caplog.text


def test_two_keys_that_become_one_and_differ(model: AuralSAM2, filled: State) -> None:
    key = "v_model.no_mem_embed"
    with pytest.raises(CheckpointError, match=rf"holds {key} twice, as {key} and as module\.{key}, and they differ"):
        model.load_released(filled | {f"module.{key}": filled[key] + 1})


@pytest.mark.parametrize("prefix", ["network.", "module.net.0."])
@pytest.mark.parametrize("form", [dict, older, lambda state: {k: v for k, v in state.items() if k.startswith(FUSER)}])
def test_a_prefix_that_nobody_knows_is_named(
    model: AuralSAM2, filled: State, form: Callable[[State], State], prefix: str
) -> None:
    named = re.escape(prefix.removeprefix("module."))
    for ask in (model.load_released, checkpoints.reads_text):
        with pytest.raises(CheckpointError, match=rf"a prefix that is not known: '{named}'\. Known are module\."):
            ask(wrapped(prefix)(form(filled)))
    assert all(not value.any() for value in model.state_dict().values())


@pytest.mark.parametrize("prefix", ["network.", "module.net.0."])
def test_an_unknown_prefix_of_the_fuser_alone_or_of_one_part(model: AuralSAM2, filled: State, prefix: str) -> None:
    """Of these files no name says whose it is."""
    named = re.escape(prefix.removeprefix("module."))
    with pytest.raises(CheckpointError, match=rf"a prefix that is not known: '{named}'"):
        model.load_released(wrapped(prefix)(fuser_alone(filled)))
    sam2 = part(filled, "v_model.")
    with pytest.raises(CheckpointError, match=rf"SAM2 checkpoint .* does not fit: .*not known: '{named}'\. Known are"):
        checkpoints.load_sam2(model, wrapped(prefix)(sam2))
    with pytest.raises(CheckpointError, match=rf"VGGish checkpoint does not fit: .*not known: '{named}'"):
        checkpoints.load_vggish(model, wrapped(prefix)(model.aural_fuser.vgg.state_dict()))
    assert all(not value.any() for value in model.state_dict().values())


def test_a_few_names_that_are_alike_are_no_prefix(model: AuralSAM2, filled: State) -> None:
    sam2 = part(filled, "v_model.")
    sam2["other.no_mem_embed"] = sam2.pop("no_mem_embed")
    with pytest.raises(CheckpointError, match=r"1 missing: no_mem_embed; 1 unexpected: other\.no_mem_embed"):
        checkpoints.load_sam2(model, sam2)


WRAPPERS_OF_TRAINING = (
    *(("_orig_mod.", "module."), ("module.", "_orig_mod."), ("model.", "_orig_mod.", "module.")),
    *(("_fsdp_wrapped_module.",), ("module.", "_checkpoint_wrapped_module.")),
)


@pytest.mark.parametrize("prefixes", WRAPPERS_OF_TRAINING)
def test_wrappers_in_any_order(model: AuralSAM2, filled: State, prefixes: tuple[str, ...]) -> None:
    state = wrapped("".join(prefixes))(filled)
    inside = {key.replace("v_model.", f"v_model.{prefixes[0]}", 1): value for key, value in state.items()}
    model.load_released((inside if prefixes[0] != "model." else state) | {"n_averaged": torch.tensor(7)})
    assert_loaded(model, filled)


def test_of_a_whole_file_sam2_is_taken(model: AuralSAM2, filled: State) -> None:
    checkpoints.load_sam2(model, filled)
    assert_loaded(model, filled, "v_model.")


def part(state: State, owner: str) -> State:
    return {key.removeprefix(owner): value for key, value in state.items() if key.startswith(owner)}


def test_what_is_no_network_is_told(filled: State) -> None:
    assert checkpoints.lacks(filled) is None
    for state, words in (
        (fuser_alone(filled), "holds the fuser alone; give SAM2's own weights too"),
        (part(filled, "v_model."), "holds SAM2's own weights and no fuser; give AuralSAM2's"),
        (part(filled, f"{FUSER}vgg."), "holds VGGish alone"),
        ({"conv1.weight": torch.zeros(1)}, "holds no tensor of AuralSAM2; its names are such as conv1.weight."),
        ({}, "its names are such as none."),
    ):
        found = checkpoints.lacks(state)
        assert found is not None
        assert found.startswith(words) or found.endswith(words)
