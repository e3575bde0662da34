"""The epsilon of the layer norms is the network's: one constant, read by the operator's references and its kernels."""

import ast
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="the kernels are written for the triton package")

from auralsam2.network.fusion import AudioVisualFusion
from kernels.fusion import triton_kernels
from kernels.fusion.weights import NORM_EPS


def test_the_kernels_take_the_epsilon_of_the_weights() -> None:
    assert triton_kernels.EPS.value == NORM_EPS
    tree = ast.parse(Path(triton_kernels.__file__).read_text())
    small = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and type(node.value) is float]
    assert not [value for value in small if 0 < abs(value) < 0.1], "an epsilon is typed into a kernel"


def test_it_is_that_of_the_network_s_own_layers() -> None:
    fusion = AudioVisualFusion(128, 64, "released")
    found = {module.eps for name, module in fusion.named_modules() if type(module).__name__ == "LayerNorm"}
    assert found == {NORM_EPS}
