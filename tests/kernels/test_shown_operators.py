"""Operators whose launches Inductor sees: the graph it is handed holds the plan, and the switch leaves CPUs alone."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from kernels import operators, tuning
from kernels.launching.launch import Plan
from kernels.shown_operators import show_kernels

CAPABILITY = 90
CLOSED = operators.depthwise_gelu


@pytest.fixture(scope="module")
def graphs(repository_root: Path) -> dict[str, list[list[Any]]]:
    environ = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "tests.kernels.shown_graphs"]
    done = subprocess.run(command, cwd=repository_root, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, list[list[Any]]] = json.loads(done.stdout.splitlines()[-1])
    return found


def half(*shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.float16, device="meta")


def plans() -> dict[str, Plan]:
    """Of the sizes in `shown_graphs`."""
    device = torch.device("meta")
    weights = [half(192, 128), half(192), half(320, 128), half(320)]
    weights += [half(128, 64), half(128), half(128), half(128)] * 2
    table = torch.empty(64, 64, device="meta")
    query, key, value = half(64, 128), half(132, 128), half(132, 32)
    return {
        "audio_visual_fusion": operators.plan_fusion(device, half(2, 64, 128), half(2, 128), *weights, "released"),
        "memory_attention": operators.plan_memory_attention(device, query, key, value, table, table, 4),
        "depthwise_gelu": operators.plan_depthwise_gelu(device, half(2, 64, 64), half(64, 1, 3, 3), half(64), 8),
    }


@pytest.mark.parametrize("name", ["audio_visual_fusion", "memory_attention", "depthwise_gelu"])
def test_the_graph_holds_the_plan_and_writes_its_outputs_alone(
    name: str, graphs: dict[str, list[list[Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        tuning, "blocks_for", lambda dtype, device: tuning.blocks_of(dtype, f"sm_{CAPABILITY}", CAPABILITY)
    )
    wanted = [
        [list(launch.grid), {**launch.integers, **launch.constants}, sorted(launch.outputs)]
        for launch in plans()[name].launches
    ]
    assert [[grid, numbers, sorted(written)] for grid, numbers, written in graphs[name]] == wanted


@pytest.fixture
def _shown() -> Iterator[None]:
    show_kernels(True)
    yield
    show_kernels(False)


@pytest.mark.usefixtures("_shown")
def test_a_cpu_runs_what_it_ran() -> None:
    draw = torch.Generator().manual_seed(0)
    hidden, weight, bias = (torch.randn(shape, generator=draw) for shape in ((1, 9, 64), (64, 1, 3, 3), (64,)))
    found = operators.depthwise_gelu(hidden, weight, bias, 3)
    show_kernels(False)
    assert torch.equal(found, operators.depthwise_gelu(hidden, weight, bias, 3))


def test_it_is_off_by_itself() -> None:
    assert operators.depthwise_gelu is CLOSED
