"""The kernels at the map of 1024 px, 64 x 64: 32 blocks a frame, and scores that pass 2 gathers from all of them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from kernels.fusion.plan import FusionSizes, default_blocks, plan
from kernels.fusion.reference import FUSION_FORMS, FusionForm
from kernels.launching.prepared import run

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.mark.parametrize("form", FUSION_FORMS)
def test_full_map(
    form: FusionForm,
    fusion_case: Callable[..., Any],
    errors: Callable[..., list[float]],
    not_a_number: Callable[..., torch.Tensor],
) -> None:
    case = fusion_case(1, 64 * 64, 2, form)
    made = plan(FusionSizes.of(1, 64 * 64, 2, 256, 128), torch.float32, form, default_blocks(torch.float32))
    found = run(made, {name: tensor.to(DEVICE) for name, tensor in case.tensors().items()}, not_a_number)
    assert max(errors(tuple(side.cpu() for side in found), case.truth())) < 1e-5
