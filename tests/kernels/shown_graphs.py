"""What Inductor is handed of the shown operators: traced on fake tensors of a card, printed as JSON.

Run as a program, in a process of its own, because Triton's analysis of a kernel needs it compiled and not interpreted.
For each operator: the graph's launches as grid, numbers, and the tensors that the analysis finds to be written.
"""

import json
from collections.abc import Callable
from typing import Any

import torch
import triton
from torch import Tensor
from torch._functorch.aot_autograd import aot_function
from torch._subclasses.fake_tensor import FakeTensorMode

from kernels import operators, tuning
from kernels.shown_operators import show_kernels
from tests.kernels.launching.recording_driver import CAPABILITY, RecordingDriver

HALF = torch.float16


def launches_of(function: Callable[..., Any], *inputs: Tensor) -> list[list[Any]]:
    """The launches in the graph that a compiler is given for `function`."""
    graphs: list[torch.fx.GraphModule] = []

    def keep(gm: torch.fx.GraphModule, example_inputs: Any) -> Any:
        graphs.append(gm)
        return gm

    with torch.no_grad():
        aot_function(function, fw_compiler=keep)(*inputs)
    (graph,) = graphs
    found = []
    for node in graph.graph.nodes:
        assert "auralsam2" not in str(node.target)
        if "triton_kernel_wrapper" in str(node.target):
            numbers = {name: value for name, value in node.kwargs["kwargs"].items() if not hasattr(value, "op")}
            found.append([list(node.kwargs["grid"][0]), numbers, node.kwargs["tensors_to_clone"]])
    return found


def card(*shape: int, dtype: torch.dtype = HALF) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="cuda")


def main() -> None:
    triton.runtime.driver.set_active(RecordingDriver())
    tuning.blocks_for = lambda dtype, device: tuning.blocks_of(dtype, f"sm_{CAPABILITY}", CAPABILITY)
    show_kernels(True)
    width, inner, frames = 128, 64, 2
    wide = width + 3 * inner
    weights = [card(3 * inner, width), card(3 * inner), card(wide, width), card(wide)]
    for _ in range(2):
        weights += [card(width, inner), card(width), card(width), card(width)]
    tables = [card(64, 64, dtype=torch.float32) for _ in range(2)]
    result = {
        "audio_visual_fusion": launches_of(
            lambda *tensors: operators.audio_visual_fusion(*tensors, "released"),
            card(frames, 64, width),
            card(frames, width),
            *weights,
        ),
        "memory_attention": launches_of(
            lambda *tensors: operators.memory_attention(*tensors, 4),
            card(64, width),
            card(132, width),
            card(132, 32),
            *tables,
        ),
        "depthwise_gelu": launches_of(
            lambda *tensors: operators.depthwise_gelu(*tensors, 8),
            card(frames, 64, 64),
            card(64, 1, 3, 3),
            card(64),
        ),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    with FakeTensorMode():
        main()
