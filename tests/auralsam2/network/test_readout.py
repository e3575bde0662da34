"""The best candidate, chosen by comparisons: the same as by its index, ties and gradients included."""

import pytest
import torch
from torch import Tensor

from auralsam2.network.readout import best


def by_index(values: Tensor, iou: Tensor) -> Tensor:
    return torch.stack([frame[scores.argmax()] for frame, scores in zip(values, iou, strict=True)])


@pytest.mark.parametrize("shape", [(27, 3), (27, 3, 5), (27, 3, 4, 2)])
def test_the_highest_iou_is_chosen_and_of_equals_the_first(shape: tuple[int, ...]) -> None:
    # Every order of three, with ties; sigmoids end at exactly 1.
    iou = torch.cartesian_prod(*[torch.tensor([0.25, 0.5, 1.0])] * 3)
    assert set(iou.argmax(1).tolist()) == {0, 1, 2}
    torch.manual_seed(0)
    values = torch.randn(shape)
    found = best(values, iou)
    assert found.shape == (27, *shape[2:])
    assert torch.equal(found, by_index(values, iou))


def test_the_gradient_goes_to_the_chosen_one_alone() -> None:
    torch.manual_seed(0)
    with torch.enable_grad():
        values, iou = torch.randn(4, 3, 5, requires_grad=True), torch.rand(4, 3)
        gradients = [torch.autograd.grad(choose(values, iou).square().sum(), values)[0] for choose in (best, by_index)]
    assert torch.equal(*gradients)
    assert (gradients[0] != 0).any(dim=2).sum(dim=1).tolist() == [1] * 4
