"""Layers that older files name by their place in a list alone are found by the order of their shapes, or refused."""

import re
from collections.abc import Sequence

import pytest
import torch

from auralsam2 import AuralSAM2, checkpoints
from auralsam2.errors import CheckpointError
from tests.auralsam2.checkpoints.forms import (
    FUSER,
    LIST,
    State,
    assert_loaded,
    in_lists,
    with_lists,
)


@pytest.mark.parametrize("name", ["hiera_tiny", "hiera_small", "hiera_base_plus", "hiera_large"])
@pytest.mark.parametrize("ending", [14, 16])
def test_the_keys_of_older_avsbench_files(
    released_shapes: dict[str, dict[str, tuple[int, ...]]], name: str, ending: int
) -> None:
    held = {
        key: torch.zeros(()).expand(shape)
        for key, shape in released_shapes[name].items()
        if ending == 16 or ".train_proj_" not in key
    }
    named = checkpoints.current_names(in_lists(held))
    assert {key: value.shape for key, value in named.items()} == {key: value.shape for key, value in held.items()}
    assert not checkpoints.reads_text(in_lists(held))


def test_a_list_in_the_order_of_the_parts(model: AuralSAM2, filled: State) -> None:
    parts = ("f_blocks", "a_blocks", "fusion_modules")
    by_part = (*LIST[:3], *(f"{part}.{stage}" for part in parts for stage in range(3)), *LIST[12:])
    model.load_released(in_lists(filled, by_part))
    assert_loaded(model, filled)


@pytest.mark.parametrize(
    "order",
    [
        # A smoothing convolution before the third patch embedding, whose shapes are the same.
        ("patch_embeds.0", "patch_embeds.1", *LIST[3:12], "smooth_convs.0", "smooth_convs.1", "patch_embeds.2"),
        # The fusion before the blocks that it follows.
        (*LIST[:3], "fusion_modules.0", "f_blocks.0", "a_blocks.0", *LIST[6:14]),
        LIST[1:14],
    ],
)
def test_a_list_in_an_order_that_nobody_knows(model: AuralSAM2, filled: State, order: Sequence[str]) -> None:
    state = in_lists({key: value for key, value in filled.items() if ".train_proj_" not in key}, order)
    with pytest.raises(CheckpointError, match=r"in no order that is known.*\(0: .*Convert the file"):
        model.load_released(state)
    assert all(not value.any() for value in model.state_dict().values())


def test_sound_and_picture_exchanged_in_a_list(released_shapes: dict[str, dict[str, tuple[int, ...]]]) -> None:
    """The blocks of stage 1 are as many on both sides; those of the later stages tell."""
    held = {key: torch.zeros(()).expand(shape) for key, shape in released_shapes["hiera_tiny"].items()}
    sides = {"f_blocks": "a_blocks", "a_blocks": "f_blocks"}
    exchanged = [part.replace(part[:8], sides.get(part[:8], part[:8])) for part in LIST]
    with pytest.raises(CheckpointError, match="in no order that is known"):
        checkpoints.current_names(in_lists(held, exchanged))


def test_a_second_list_for_fine_tuning(model: AuralSAM2, filled: State) -> None:
    state = {key.replace("finetuning_layers.0.", "finetuning_layers.1."): v for key, v in in_lists(filled).items()}
    with pytest.raises(CheckpointError, match=r"lists finetuning_layers\.1; known is finetuning_layers\.0, VGGish"):
        model.load_released(state)


def test_a_part_that_stands_in_the_list_alone(model: AuralSAM2, filled: State) -> None:
    both = with_lists(filled)
    state = {key: value for key, value in both.items() if not key.startswith(f"{FUSER}a_blocks.2.")}
    model.load_released(state)
    assert_loaded(model, filled)


def test_duplicates_that_differ_are_named(model: AuralSAM2, filled: State, caplog: pytest.LogCaptureFixture) -> None:
    state = with_lists(filled)
    model.load_released(state)
    assert not caplog.records
    state["aural_fuser.training_layers.5.W_z.1.running_var"] = torch.full((128,), 9.0)
    model.load_released(state)
    assert_loaded(model, filled)
    (record,) = caplog.records
    assert "1 of the tensors" in record.getMessage()
    assert record.getMessage().endswith(": training_layers.5.W_z.1.running_var")


def test_duplicates_whose_order_nobody_knows_are_named(
    model: AuralSAM2, filled: State, caplog: pytest.LogCaptureFixture
) -> None:
    model.load_released(filled | in_lists(filled, LIST[1:16]))
    assert_loaded(model, filled)
    assert re.search(r"\d+ of the tensors .* cannot be matched .* and \d+ more$", caplog.text.strip())
