"""Counts against numbers worked out by hand, on meta tensors and on real ones."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from auralsam2.network.pvt import Block
from kernels.counting import Counted, count_operators

HALF = 2
"""Bytes of a float16."""


def half(*shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.float16, device="meta")


def figures(count: Counted) -> tuple[int, int, int]:
    return count.flop, count.bytes, count.launches


def test_a_product_reads_both_sides_and_the_bias() -> None:
    count = count_operators(F.linear, half(3, 5, 8), half(16, 8), half(16))
    assert figures(count) == (2 * 15 * 8 * 16, HALF * (15 * 8 + 16 * 8 + 16 + 15 * 16), 1)
    assert list(count.by_operator) == ["addmm"]


def test_a_depthwise_convolution_fed_tokens_answers_in_tokens() -> None:
    """Its result goes on to GELU and a linear layer without a copy."""
    convolution = nn.Conv2d(32, 32, 3, padding=1, groups=32, device="meta", dtype=torch.float16)

    def tokens(x: Tensor) -> Tensor:
        out: Tensor = convolution(x.transpose(1, 2).unflatten(2, (7, 7)))
        return F.gelu(out.flatten(2).transpose(1, 2)).contiguous()

    count = count_operators(tokens, half(2, 49, 32))
    elements = 2 * 49 * 32
    assert {name: (call.flop, call.bytes) for name, call in count.by_operator.items()} == {
        "convolution": (2 * 9 * elements, HALF * (2 * elements + 9 * 32 + 32)),
        "gelu": (elements, HALF * 2 * elements),
    }


def test_attention_is_one_kernel_that_keeps_its_scores() -> None:
    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)

    count = count_operators(attend, half(2, 4, 64, 16), half(2, 4, 8, 16), half(2, 4, 8, 16))
    assert figures(count) == (4 * 2 * 4 * 64 * 8 * 16, HALF * 2 * (2 * 2 * 4 * 64 * 16 // 2 + 2 * 4 * 8 * 16), 1)


def test_views_are_free_and_what_a_view_leaves_out_is_not_read() -> None:
    def doubled(x: Tensor) -> Tensor:
        middle = x.unflatten(1, (2, 8)).permute(1, 0, 2).unbind(0)[1][:, 2:4]
        return middle.unsqueeze(0).expand(5, -1, -1) * 2

    assert figures(count_operators(doubled, half(3, 16))) == (5 * 6, HALF * (6 + 5 * 6), 1)


def test_an_input_named_twice_is_read_once() -> None:
    assert count_operators(lambda x: x * x, half(10)).bytes == HALF * 20
    assert count_operators(lambda x: x @ x.T, half(4, 4)).bytes == HALF * 32
    assert count_operators(lambda x: x[:5] * x[5:], half(10)).bytes == HALF * 15


def test_in_place_reads_and_writes_but_overwriting_does_not_read() -> None:
    assert figures(count_operators(lambda x: x.add_(1), half(10))) == (10, HALF * 20, 1)
    assert figures(count_operators(lambda x, y: x.copy_(y), half(10), half(10))) == (0, HALF * 20, 1)
    assert figures(count_operators(lambda x: x.zero_(), half(10))) == (0, HALF * 10, 1)
    assert figures(count_operators(lambda x, y: torch.add(x, x, out=y), half(10), half(10))) == (10, HALF * 20, 1)


def test_copies_do_no_arithmetic() -> None:
    assert figures(count_operators(lambda x: x.T.contiguous(), half(4, 6))) == (0, HALF * 48, 1)
    assert figures(count_operators(lambda x: x.float(), half(10))) == (0, HALF * 10 + 4 * 10, 1)
    assert figures(count_operators(lambda x, y: torch.cat([x, y]), half(10), half(20))) == (0, HALF * 60, 1)
    assert figures(count_operators(lambda: torch.empty(10))) == (0, 0, 0)


def test_gathering_reads_what_it_takes() -> None:
    places = torch.zeros(3, dtype=torch.int64, device="meta")
    assert count_operators(F.embedding, places, half(100, 8)).bytes == 3 * 8 + HALF * 2 * 24


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_a_block_counts_alike_on_meta_and_real_tensors(device: str) -> None:
    """By hand: 5 products, 2 convolutions, attention, 3 norms, GELU, 2 residual sums."""
    frames, side, width, heads = 2, 8, 32, 4
    pixels, keys, hidden = frames * side**2, frames * (side // 4) ** 2, 4 * width
    with torch.device(device):
        block, x = Block(width, heads).eval(), torch.empty(frames, side**2, width).normal_()
    count = count_operators(block, x, side)
    products = width * width * (pixels * 2 + keys * 2) + 2 * pixels * width * hidden
    convolutions = keys * 16 * width * width + pixels * 9 * hidden
    attention = 2 * pixels * (side // 4) ** 2 * width
    element_wise = 4 * pixels * width + keys * width + pixels * hidden
    assert count.flop == 2 * (products + convolutions + attention) + element_wise
    weights = sum(parameter.numel() for parameter in block.parameters())
    norms = 2 * (2 * pixels + keys)  # mean and deviation of each row
    # Norms, reduction, q, attention, projection, sum, fc1, fc2, sum; then fc1 to fc2; then reduction to attention.
    in_width = pixels * width * (2 + 2 + 1 + 2 + 2 + 2 + 3 + 1 + 1 + 3)
    in_hidden = pixels * hidden * (1 + 2 + 2 + 1)
    in_keys = keys * width * (1 + 2 + 3 + 2)
    assert count.bytes == 4 * (weights + norms + in_width + in_hidden + in_keys)
    assert count.launches == 14


def test_counting_changes_no_result() -> None:
    torch.manual_seed(0)
    block, x = Block(32, 4).eval(), torch.randn(2, 64, 32)
    seen: list[Tensor] = []
    count_operators(lambda: seen.append(block(x, 8)))
    with torch.inference_mode():
        assert torch.allclose(seen[0], block(x, 8), atol=1e-6)
