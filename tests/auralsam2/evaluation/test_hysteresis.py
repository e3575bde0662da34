"""The comparison of roundings: what it counts, and that the masks it puts into memory are those that are read."""

import pytest
import torch
from torch import Tensor

from auralsam2.data.samples import Sample
from auralsam2.data.world.held_out import read_split
from auralsam2.evaluation import hysteresis
from auralsam2.evaluation.hysteresis import (
    PAIRS,
    Bench,
    Difference,
    difference,
    memory_masks,
    nudge,
    remembering,
    round_to,
    table,
)
from auralsam2.model.aural_sam2 import AuralSAM2
from auralsam2.model.loading import load_network
from auralsam2.model.sounding_sam2 import ClipOutput
from auralsam2.network.image_encoder import normalise
from auralsam2.network.log_mel import LogMel


@pytest.fixture(scope="module")
def model() -> AuralSAM2:
    return load_network("compact")[0]


@pytest.fixture(scope="module")
def sample() -> Sample:
    return next(read_split("multi", 1, num_frames=3))


@pytest.fixture(scope="module")
def clip(sample: Sample) -> tuple[Tensor, Tensor]:
    return normalise(torch.from_numpy(sample.frames)), LogMel()(torch.from_numpy(sample.windows))


def output(logits: Tensor) -> ClipOutput:
    """A result whose first candidate is best."""
    num_frames = len(logits)
    iou = torch.tensor([[0.9, 0.1, 0.2]]).expand(num_frames, 3)
    return ClipOutput(logits, iou, torch.ones(num_frames, 1), torch.zeros(num_frames, 8))


def test_a_difference_counts_pixels_that_are_read_and_logits_that_follow() -> None:
    one = torch.full((3, 3, 8, 8), -4.0)
    one[:, 0, :4] = 4.0
    other = one.clone()
    other[0, 0, 0, 0] = -64.0  # frame 0: seen in its memory mask, decoded before any memory
    other[1, 0, 7, 7] -= 0.25  # moves a logit, no pixel
    other[2, 0, 0, 0] = -64.0  # the last frame's mask nobody reads
    other[1, 1] += 3.0  # not the best candidate
    found = difference(output(one), output(other), memory_masks(output(other)))
    gone = int((memory_masks(output(one)) != memory_masks(output(other)))[0].sum())
    assert gone > 0
    assert found.flipped == gone
    assert found.moved == 68.0
    assert found.switched == 0
    assert 0.9 < found.agreement < 1
    assert difference(output(one), output(one), memory_masks(output(one))) == Difference(0, 0, 0.0, 1.0)


def test_another_candidate_is_not_a_flip() -> None:
    one = torch.full((3, 3, 8, 8), -4.0)
    one[:, 1] = 4.0
    other = output(one)
    chosen = torch.tensor([[0.9, 0.1, 0.2], [0.9, 0.95, 0.2], [0.9, 0.1, 0.2]])  # frame 1: the second
    other = ClipOutput(other.low_res_logits, chosen, other.object_score, other.object_pointer)
    found = difference(output(one), other, memory_masks(other))
    assert (found.flipped, found.switched, found.moved) == (0, 1, 0.0)
    assert found.agreement == pytest.approx(2 / 3)


def test_the_memory_is_made_of_the_masks_that_are_given(model: AuralSAM2, clip: tuple[Tensor, Tensor]) -> None:
    plain = model(*clip)
    with remembering(model, memory_masks(plain)):
        same = model(*clip)
    assert torch.equal(same.low_res_logits, plain.low_res_logits)
    with remembering(model, 1 - memory_masks(plain)):
        turned = model(*clip)
    assert torch.equal(turned.low_res_logits[0], plain.low_res_logits[0])
    for frame in (1, 2):
        assert not torch.equal(turned.low_res_logits[frame], plain.low_res_logits[frame])
    assert torch.equal(model(*clip).low_res_logits, plain.low_res_logits), "the hook is gone"


def test_one_pixel_of_each_mask_is_flipped_the_one_nearest_to_zero(
    model: AuralSAM2, clip: tuple[Tensor, Tensor]
) -> None:
    plain = model(*clip)
    flipped = (nudge(plain) != memory_masks(plain)).flatten(1)
    assert flipped.sum(1).tolist() == [1, 1, 1]
    nearest = hysteresis.enlarge(hysteresis.best(plain.low_res_logits, plain.iou)[:, None]).flatten(1).abs()
    assert torch.equal(nearest[flipped], nearest.amin(1))


def test_a_rounded_network_holds_what_its_type_holds_and_leaves_the_fuser(model: AuralSAM2) -> None:
    twin = round_to(model, torch.float16)
    for (name, own), value in zip(model.named_parameters(), twin.parameters(), strict=True):
        want = own.half().float() if name.startswith("v_model.") else own
        assert torch.equal(value, want), name
    seen: list[Tensor] = []
    layer = twin.v_model.memory_attention.layers[0].linear1
    layer.register_forward_hook(lambda module, inputs, out: seen.append(out))
    layer(torch.randn(4, layer.in_features))
    assert torch.equal(seen[0], seen[0].half().float())


@pytest.fixture(scope="module")
def found(model: AuralSAM2, sample: Sample) -> dict[str, tuple[Difference, Difference]]:
    return Bench(model).measure(sample)


def test_finer_types_move_less(found: dict[str, tuple[Difference, Difference]]) -> None:
    assert tuple(found) == PAIRS
    moved = {name: own.moved for name, (own, _) in found.items()}
    assert 0 < moved["float64"] < 1e-3 < moved["float16"] < moved["bfloat16"]
    assert found["float64"][0].agreement > 0.999
    assert all(same.flipped == 0 for _, same in found.values())
    assert found["one pixel"][0].flipped == 2
    assert found["one pixel"][0].moved > 0
    assert found["one pixel"][1] == Difference(0, 0, 0.0, 1.0)


def test_the_table_has_a_line_a_pair(found: dict[str, tuple[Difference, Difference]]) -> None:
    lines = table([found, found])
    cells = [line.strip("| ").split(" | ") for line in lines if "---" not in line]
    assert [row[0] for row in cells[1:]] == list(PAIRS)
    assert {len(row) for row in cells} == {8}
    assert cells[4][2] == "2.00 (2)"
