"""What a class head promises whatever its weights: classes inside the mask alone, frames and tokens without order."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from onnx_ir import save
from torch import Tensor, nn

from auralsam2.classes.class_head import ClassHead
from auralsam2.classes.classifier import enlarge_labels
from auralsam2.errors import NetworkError
from auralsam2.presets import preset
from export.graphs.onnx_graph import to_onnx

COMPACT = preset("compact")
NAMES = ("S4", "S8", "EMBEDDING", "VISUAL", "AUDIO_1", "AUDIO_2", "AUDIO_3", "MASK_LOGITS")
NUM_CLASSES, NUM_FRAMES, EMPTY = 5, 4, 2


@pytest.fixture(scope="module")
def head(well_scaled: Callable[[nn.Module, int], nn.Module]) -> ClassHead:
    made = well_scaled(ClassHead(COMPACT, NUM_CLASSES), 3)
    assert isinstance(made, ClassHead)
    return made


@pytest.fixture(scope="module")
def inputs() -> tuple[Tensor, ...]:
    """Four frames at 64 px; the third has an empty mask."""
    draw, width, side = torch.Generator().manual_seed(5), COMPACT.width, 4
    shapes: list[tuple[int, ...]] = [(width // 8, 4 * side, 4 * side), (width // 4, 2 * side, 2 * side)]
    shapes += [(width, side, side)] * 2 + [(width,)] * 3 + [(4 * side, 4 * side)]
    made = [torch.randn(NUM_FRAMES, *shape, generator=draw) for shape in shapes]
    made[-1][EMPTY] = -made[-1][EMPTY].abs()
    return tuple(made)


def test_every_pixel_of_the_mask_has_a_class_and_no_other_has(head: ClassHead, inputs: tuple[Tensor, ...]) -> None:
    class_map, scores = head(*inputs)
    assert class_map.dtype == torch.uint8
    assert class_map.shape == inputs[-1].shape
    assert torch.equal(class_map > 0, inputs[-1] > 0)
    assert int(class_map.max()) <= NUM_CLASSES
    assert len(class_map.unique()) > 2, "random weights name several classes"
    assert scores.shape == (NUM_FRAMES, NUM_CLASSES)
    assert ((scores > 0) & (scores < 1)).any(1).tolist() == [True, True, False, True], "of no mask no class is heard"
    assert (scores[EMPTY] == 0).all()


def test_frames_do_not_look_at_each_other(head: ClassHead, inputs: tuple[Tensor, ...]) -> None:
    order = torch.tensor([2, 0, 3, 1])
    for whole, parts in zip(head(*inputs), head(*(each[order] for each in inputs)), strict=True):
        torch.testing.assert_close(parts, whole[order])
    alone = head(*(each[1:2] for each in inputs))
    assert torch.equal(alone[0], head(*inputs)[0][1:2])


def test_a_class_is_its_token_and_nothing_else(head: ClassHead, inputs: tuple[Tensor, ...]) -> None:
    """Tokens in another order: the same pixels under the new numbers."""
    class_map, scores = head(*inputs)
    order = torch.tensor([3, 0, 4, 2, 1])
    tokens = head.tokens.data.clone()
    head.tokens.data = tokens[order]
    try:
        moved_map, moved_scores = head(*inputs)
    finally:
        head.tokens.data = tokens
    torch.testing.assert_close(moved_scores, scores[:, order])
    old_number = torch.cat([torch.zeros(1, dtype=torch.long), order + 1])
    assert torch.equal(old_number[moved_map.long()].to(torch.uint8), class_map)


def test_it_reads_all_that_it_is_given(head: ClassHead, inputs: tuple[Tensor, ...]) -> None:
    logits = head.logits(*inputs)[0]
    for place, name in enumerate(NAMES):
        changed = [each.clone() for each in inputs]
        changed[place][0] = -changed[place][0]
        assert not torch.allclose(head.logits(*changed)[0][0], logits[0], atol=1e-4), name


def test_its_graph_equals_it(head: ClassHead, inputs: tuple[Tensor, ...], tmp_path: Path) -> None:
    path = tmp_path / "head.onnx"
    save(to_onnx(head, inputs, NAMES, ("CLASS_MAP", "CLASS_SCORES")), path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    shapes = {each.name: each.shape for each in session.get_inputs()}
    assert shapes == {name: list(value.shape) for name, value in zip(NAMES, inputs, strict=True)}, "fixed, by name"
    found = session.run(None, {name: value.numpy() for name, value in zip(NAMES, inputs, strict=True)})
    wanted = [each.numpy() for each in head(*inputs)]
    np.testing.assert_array_equal(found[0], wanted[0])
    np.testing.assert_allclose(found[1], wanted[1], atol=1e-5)


@pytest.mark.parametrize("count", [0, 256])
def test_a_label_is_a_byte(count: int) -> None:
    with pytest.raises(NetworkError, match=f"{count} classes; a class head has 1 to 255"):
        ClassHead(COMPACT, count)


def test_each_pixel_of_an_enlarged_mask_has_a_class_of_its_neighbours() -> None:
    draw = torch.Generator().manual_seed(1)
    logits = torch.randn(3, 8, 8, generator=draw)
    class_map = torch.where(logits > 0, torch.randint(1, 6, logits.shape, generator=draw), 0).to(torch.uint8)
    large = enlarge_labels(class_map, logits, (32, 24))
    inside = torch.nn.functional.interpolate(logits[None], size=(32, 24), mode="bilinear")[0] > 0
    assert large.shape == (3, 32, 24)
    assert torch.equal(large > 0, inside)
    # A pixel whose four neighbours are of one class is of that class.
    flat = torch.full((1, 8, 8), 4, dtype=torch.uint8)
    assert torch.equal(enlarge_labels(flat, torch.ones(1, 8, 8), (16, 16)), torch.full((1, 16, 16), 4).to(torch.uint8))
    half = torch.ones(1, 2, 2, dtype=torch.uint8)
    half[..., 1] = 2
    assert enlarge_labels(half, torch.ones(1, 2, 2), (4, 8))[0, 0].tolist() == [1, 1, 1, 1, 2, 2, 2, 2]
