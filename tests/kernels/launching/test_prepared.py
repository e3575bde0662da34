"""Prepared launches: made once a shape, equal to Triton's own, never on pointers that they were not compiled for."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from kernels.depthwise_gelu.plan import DepthwiseGeluSizes, default_blocks, plan
from kernels.depthwise_gelu.pytorch import depthwise_gelu
from kernels.launching.launch import Plan
from kernels.launching.prepared import Prepared, PreparedLaunch, call, prepare

made: list[tuple[int, ...]] = []


@pytest.fixture
def planned() -> list[tuple[int, ...]]:
    """The shapes of which a plan was made."""
    prepare.cache_clear()
    made.clear()
    return made


def plan_of(device: torch.device, hidden: Tensor, weight: Tensor, bias: Tensor, side: int) -> Plan:
    made.append(tuple(hidden.shape))
    sizes = DepthwiseGeluSizes(hidden.shape[0], side, hidden.shape[2])
    return plan(sizes, hidden.dtype, default_blocks(hidden.dtype, 90))


def arguments(num_frames: int, seed: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    shapes = (num_frames, 9, 64), (64, 1, 3, 3), (64,)
    hidden, weight, bias = (torch.randn(shape, generator=draw).to(dtype) for shape in shapes)
    return hidden, weight, bias


def test_a_shape_is_planned_once_and_numbers_are_read_each_time(planned: list[tuple[int, ...]]) -> None:
    for num_frames, seed in ((1, 0), (1, 1), (2, 2), (1, 3)):
        inputs = arguments(num_frames, seed)
        (found,) = call(plan_of, inputs, 3)
        torch.testing.assert_close(found, depthwise_gelu(*inputs, 3), rtol=0, atol=1e-5)
    assert planned == [(1, 9, 64), (2, 9, 64)]


def test_a_type_is_another_shape_and_a_layout_is_not(planned: list[tuple[int, ...]]) -> None:
    hidden, weight, bias = arguments(2, 0)
    strided = hidden.transpose(1, 2).contiguous().transpose(1, 2)
    for inputs in ((hidden, weight, bias), (strided, weight, bias), arguments(2, 0, torch.float16)):
        call(plan_of, inputs, 3)
    assert planned == [(2, 9, 64)] * 2


def test_inputs_that_do_not_fit_are_refused_each_time(planned: list[tuple[int, ...]]) -> None:
    hidden, weight, bias = arguments(1, 0)
    for _ in range(2):
        with pytest.raises(AssertionError, match=r"bias: \(63,\), not \(64,\)"):
            call(plan_of, [hidden, weight, bias[:63]], 3)
    assert len(planned) == 2


@pytest.fixture(scope="module")
def calls() -> list[list[Any]]:
    """Three calls of memory attention in a process of its own, where Triton compiles; the third is not aligned."""
    root = Path(__file__).resolve().parents[3]
    environ = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "tests.kernels.launching.recording_driver"]
    done = subprocess.run(command, cwd=root, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: list[list[Any]] = json.loads(done.stdout)
    return found


STREAM, FUNCTION = 2, 3


def without(launches: list[list[Any]], *places: int) -> list[list[Any]]:
    return [[each for place, each in enumerate(launch) if place not in places] for launch in launches]


def test_a_prepared_launch_is_that_of_triton_on_the_stream_of_the_call(calls: list[list[Any]]) -> None:
    first, second, _ = calls
    assert [launch[0] for launch in first] == ["rotate_memory", "attend_memory", "merge_memory"]
    assert without(second, STREAM) == without(first, STREAM)
    assert [launch[STREAM] for launch in (*first, *second)] == [0, 0, 0, 1, 1, 1]


def test_what_is_not_aligned_runs_another_kernel(calls: list[list[Any]]) -> None:
    first, _, shifted = calls
    assert [ours[FUNCTION] == theirs[FUNCTION] for ours, theirs in zip(first, shifted, strict=True)] == [
        False,
        False,
        True,
    ]
    assert [launch[1] for launch in shifted] == [launch[1] for launch in first]


def test_kernels_go_to_the_card_of_their_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton launches on the current card, whichever that is."""
    events: list[object] = []

    @contextmanager
    def device_of(tensor: Tensor) -> Iterator[None]:
        events.append(tensor)
        yield
        events.append("back")

    inputs = arguments(1, 0)
    monkeypatch.setattr(torch.cuda, "device_of", device_of)
    monkeypatch.setattr(PreparedLaunch, "__call__", lambda *_: events.append("launch"))
    call(plan_of, inputs, 3)
    assert events[0] is inputs[0]
    assert events[1:] == ["launch", "back"]


def test_a_second_call_asks_triton_for_nothing() -> None:
    """Counted: the kernel under `triton.jit` is called by name once, its compiled form from then on."""
    asked: list[str] = []

    class Kernel:
        __name__, arg_names = "noted", ("hidden", "weight", "bias", "out", "SIDE", "F", "ROWS", "BLOCK_W", "BLOCK_F")

        def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., Any]:
            def launch(**named: Any) -> dict[tuple[int, ...], Callable[..., None]]:
                asked.append("triton")
                return {grid: lambda *ordered: asked.append("compiled")}

            return launch

    inputs = arguments(1, 0)
    own = plan_of(inputs[0].device, *inputs, 3)
    (launch,) = own.launches
    noted = Prepared(Plan(own.buffers, own.inputs, own.outputs, (replace(launch, kernel=Kernel()),)))
    for _ in range(3):
        noted(inputs)
    assert asked == ["triton", "compiled", "compiled"]
