"""Plans as data: signatures, bytes, and what `run` refuses."""

from dataclasses import replace

import pytest
import torch

from kernels.fusion.plan import FusionSizes, default_blocks, plan
from kernels.launching.launch import Buffer, cdiv, check_inputs

MADE = plan(FusionSizes.of(1, 64, 1, 128, 64), torch.float16, "released", default_blocks(torch.float16))


@pytest.mark.parametrize(("size", "block", "count"), [(1, 16, 1), (16, 16, 1), (17, 16, 2), (64, 16, 4)])
def test_blocks_cover_a_size(size: int, block: int, count: int) -> None:
    assert cdiv(size, block) == count


def test_bytes_of_a_buffer() -> None:
    assert Buffer((3, 5), torch.float16).num_bytes == 30
    assert Buffer((3, 5), torch.float32).num_bytes == 60


def test_signatures_follow_the_kernel_s_own_order() -> None:
    for launch in MADE.launches:
        signature = MADE.signature(launch)
        assert list(signature) == list(launch.kernel.arg_names)
        kinds = ["pointer" if kind.startswith("*") else kind for kind in signature.values()]
        outputs = [name in launch.outputs for name in signature]
        # Inputs, integers, outputs, constants: what TensorRT hands over is in this order.
        order = [
            {"i32": 1, "constexpr": 3}.get(kind, 2 if out else 0) for kind, out in zip(kinds, outputs, strict=True)
        ]
        assert order == sorted(order)
    first = MADE.signature(MADE.launches[0])
    assert (first["audio"], first["projected"], first["num_tokens"], first["C"]) == (
        "*fp16",
        "*fp32",
        "i32",
        "constexpr",
    )


def test_tensors_that_do_not_fit_the_plan_are_refused() -> None:
    tensors = {name: torch.zeros(MADE.buffers[name].shape, dtype=torch.float16) for name in MADE.inputs}
    with pytest.raises(AssertionError, match="visual"):
        check_inputs(MADE, {**tensors, "visual": torch.zeros(1, 64, 64, dtype=torch.float16)})
    with pytest.raises(AssertionError, match=r"float32, not torch\.float16"):
        check_inputs(MADE, {**tensors, "audio": torch.zeros(1, 128)})
    with pytest.raises(AssertionError, match="not contiguous"):
        check_inputs(MADE, {**tensors, "frame_out": torch.zeros(64, 128, dtype=torch.float16).T})


def test_a_launch_that_names_no_buffer_is_an_error() -> None:
    lost = replace(MADE.launches[0], inputs={**MADE.launches[0].inputs, "audio": "nowhere"})
    with pytest.raises(KeyError, match="nowhere"):
        replace(MADE, launches=(lost,)).traffic()
