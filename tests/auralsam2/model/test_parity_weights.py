"""The weight recipe must never change: the golden figures hold on its values only."""

import pytest
import torch
from torch import nn

from auralsam2.model.parity_weights import parity_state, parity_tensor


@pytest.mark.parametrize(
    ("key", "shape", "seed", "values"),
    [
        ("a.bn.running_var", (2,), 0, [2.5596006, 1.815232]),
        ("a.bn.running_mean", (2,), 1, [0.061328735, 0.09614069]),
        ("v_model.no_mem_embed", (1, 1, 2), 2, [0.30533057, 0.08027191]),
        ("x.norm.weight", (2,), 0, [1.1685575, 1.0511413]),
        ("x.norm.bias", (2,), 0, [0.08454775, 0.0014852757]),
        ("x.fc.weight", (2, 3), 3, [-0.915373, -0.38926184, 0.2335187, 0.53035575, -0.0024668446, 0.016582634]),
        ("v_model.sam_mask_decoder.iou_token.weight", (1, 2), 0, [0.41923293, 0.38617775]),
        # A projection between tokens and image is a matrix as all others, though its key says "token".
        ("q.cross_attn_token_to_image.q_proj.weight", (1, 2), 0, [1.1417935, -0.036812842]),
    ],
)
def test_a_tensor_is_a_function_of_key_shape_and_seed(
    key: str, shape: tuple[int, ...], seed: int, values: list[float]
) -> None:
    tensor = parity_tensor(key, shape, seed)
    assert tensor.dtype == torch.float32
    torch.testing.assert_close(tensor, torch.tensor(values).reshape(shape), rtol=3e-7, atol=1e-9)


def test_integer_counters_stay_as_they_are() -> None:
    norm = nn.BatchNorm1d(3)
    norm.num_batches_tracked.fill_(7)
    assert parity_state(norm, 0)["num_batches_tracked"] == 7
