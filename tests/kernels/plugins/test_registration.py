"""Chains registered with TensorRT, which a double plays; the last test asks the real package where there is one."""

import dataclasses
import sys
from typing import Any

import pytest
import torch

pytest.importorskip("triton", reason="the kernels are written for the triton package")

from kernels.compilation import Compiled
from kernels.launching.errors import KernelError
from kernels.plugins.registration import register
from tests.kernels.plugins.mean_plan import CHANNELS, mean_chain, mean_plan
from tests.kernels.plugins.plugin_stand_ins import (
    Registry,
    Symbol,
    TensorDesc,
    named,
    pretend_to_compile,
)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    double = Registry()
    monkeypatch.setitem(sys.modules, "tensorrt", double.package)
    monkeypatch.setitem(sys.modules, "tensorrt.plugin", double.plugin)
    return double


def described_mean_inputs() -> dict[str, TensorDesc]:
    return {
        "x": TensorDesc([named("T"), named("P"), Symbol(CHANNELS)], "HALF"),
        "weight": TensorDesc([Symbol(CHANNELS), Symbol(CHANNELS)], "HALF"),
    }


SIZES = [{"T": 5, "P": 4096}, {"T": 1, "P": 1}, {"T": 3, "P": 77}, {"T": 10, "P": 33}]


@pytest.mark.parametrize("sizes", SIZES)
def test_plugins_compute_what_the_integer_plan_does(registry: Registry, sizes: dict[str, int]) -> None:
    chain = mean_chain()
    register(chain)
    plan = mean_plan({"x": (sizes["T"], sizes["P"], CHANNELS), "weight": (CHANNELS, CHANNELS)}, torch.float16)
    types = {torch.float16: "HALF", torch.float32: "FLOAT"}
    tensors = described_mean_inputs()
    for kernel, launch in zip(chain.kernels, plan.launches, strict=True):
        identity = f"auralsam2::{kernel.name}"
        inputs = [tensors[name] for name in kernel.inputs]
        outputs = registry.described[identity](*inputs)
        tensors |= dict(zip(kernel.outputs, outputs, strict=True))
        for name, output in zip(kernel.outputs, outputs, strict=True):
            assert tuple(axis.at(sizes) for axis in output.shape_expr) == plan.buffers[name].shape
            assert output.dtype == types[plan.buffers[name].dtype]
        entry, ptx, launched, extra = registry.implemented[identity](*inputs, outputs, 0)
        assert entry == kernel.name
        assert f".visible .entry {entry}(" in ptx
        assert tuple(getattr(launched, f"grid_{axis}").at(sizes) for axis in "xyz") == launch.grid
        assert launched.block_x.at(sizes) == 32 * launch.num_warps
        assert launched.block_y.at(sizes) == launched.block_z.at(sizes) == 1
        assert launched.shared_mem.at(sizes) == 1024 * launch.num_warps
        order = [name for name in launch.kernel.arg_names if name in launch.integers]
        assert [value.at(sizes) for value in extra.arguments] == [launch.integers[name] for name in order]


def test_types_are_described_before_shapes_are_known(registry: Registry) -> None:
    chain = mean_chain()
    register(chain)
    fake = [TensorDesc([Symbol()] * 3, "HALF"), TensorDesc([Symbol()] * 2, "HALF")]
    (sums,) = registry.described[f"auralsam2::{chain.kernels[0].name}"](*fake)
    assert sums.dtype == "FLOAT"
    assert len(sums.shape_expr) == 3


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"dtype": "FLOAT"}, "x is FLOAT; compiled for float16"),
        ({"shape_expr": [named("T"), Symbol(CHANNELS)]}, "x has 2 axes"),
        ({"shape_expr": [named("T"), named("P"), Symbol(96)]}, r"x has 96 where \(T, P, 64\) is compiled"),
    ],
)
def test_tensors_that_the_kernel_was_not_compiled_for(registry: Registry, wrong: Any, message: str) -> None:
    chain = mean_chain()
    register(chain)
    tensors = described_mean_inputs()
    x = dataclasses.replace(tensors["x"], **wrong)
    with pytest.raises(KernelError, match=message):
        registry.described[f"auralsam2::{chain.kernels[0].name}"](x, tensors["weight"])


def test_what_is_registered_already_stays(registry: Registry) -> None:
    register(mean_chain())
    first = dict(registry.described)
    register(mean_chain())
    assert registry.described == first


def test_a_plugin_that_tensorrt_refuses_is_named(registry: Registry) -> None:
    def refuse(identity: str) -> Any:
        raise ValueError("no such type")

    registry.plugin.register = refuse
    with pytest.raises(
        KernelError, match=r"does not take the plugin auralsam2::mean_fp16_0_block_sums_\w+: no such type"
    ):
        register(mean_chain())


def test_large_shared_memory_is_asked_for_by_name(registry: Registry) -> None:
    def large(*arguments: Any) -> Compiled:
        return dataclasses.replace(pretend_to_compile(*arguments), shared_bytes=48 * 1024 + 16)

    needs = r"mean_fp16_0_block_sums_\w+ needs 49168, mean_fp16_1_clip_mean_\w+ needs 49168 bytes"
    with pytest.raises(KernelError, match=needs):
        register(mean_chain(large))
    assert not registry.described
    register(mean_chain(large), large_shared_memory=True)
    assert len(registry.described) == 2


def test_without_tensorrt_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(KernelError, match=r"plugins need the tensorrt package, 10\.7 or newer"):
        register(mean_chain())


def test_a_tensorrt_without_such_plugins_is_named(registry: Registry) -> None:
    del registry.plugin.KernelLaunchParams
    with pytest.raises(KernelError, match=r"TensorRT 11\.4\.0 has no ahead-of-time plugins"):
        register(mean_chain())


def test_the_real_tensorrt_takes_the_signatures() -> None:
    pytest.importorskip("tensorrt", reason="TensorRT needs NVIDIA's own package index and libraries")
    chain = mean_chain()
    register(chain)
    import tensorrt.plugin as plugin

    assert hasattr(plugin.op.auralsam2, chain.kernels[0].name)
