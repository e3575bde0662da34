"""The operators: their Triton path (run by the interpreter) against their CPU path, and which of them ran."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from kernels import operators, tuning
from kernels.fusion.reference import FUSION_FORMS
from kernels.launching import prepared
from kernels.launching.errors import KernelError

CAPABILITY = 90


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Names of the kernels that were launched; block sizes are those of an H100, whatever card is here."""
    names: list[str] = []
    launch = prepared.PreparedLaunch.__call__

    def watched(own: Any, *rest: Any) -> None:
        names.append(own.name)
        launch(own, *rest)

    monkeypatch.setattr(prepared.PreparedLaunch, "__call__", watched)
    monkeypatch.setattr(
        tuning, "blocks_for", lambda dtype, device: tuning.blocks_of(dtype, f"sm_{CAPABILITY}", CAPABILITY)
    )
    prepared.prepare.cache_clear()
    yield names
    prepared.prepare.cache_clear()


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) / shape[-1] ** 0.5


def fusion_arguments(width: int = 128, inner: int = 64) -> tuple[Tensor, ...]:
    shapes = [(3 * inner, width), (3 * inner,), (width + 3 * inner, width), (width + 3 * inner,)]
    shapes += [(width, inner), (width,), (width,), (width,)] * 2
    weights = [normal(*shape, seed=seed) for seed, shape in enumerate(shapes)]
    return normal(2, 64, width, seed=20), normal(3, width, seed=21), *weights


@pytest.mark.parametrize("form", FUSION_FORMS)
def test_fusion(form: str, launched: list[str]) -> None:
    arguments = fusion_arguments()
    on_cpu = operators.audio_visual_fusion(*arguments, form)
    assert not launched
    in_triton = operators._audio_visual_fusion_in_triton(*arguments, form)
    for ours, theirs in zip(in_triton, on_cpu, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    middle = {
        "released": ["released_sums", "mixing_weights", "released_mix", "add_up_sound"],
        "paper": ["paper_tokens", "paper_mix", "paper_sums", "paper_sound"],
    }
    assert launched == ["project_sound", *middle[form], "finish_sound"]


def test_memory_attention(launched: list[str]) -> None:
    angles = normal(16, 64, seed=3) * 8
    arguments = (normal(16, 128), normal(52, 128, seed=1), normal(52, 32, seed=2), angles.cos(), angles.sin(), 4)
    on_cpu = operators.memory_attention(*arguments)
    assert not launched
    torch.testing.assert_close(operators._memory_attention_in_triton(*arguments), on_cpu, rtol=0, atol=1e-5)
    assert launched == ["rotate_memory", "attend_memory", "merge_memory"]


def test_depthwise_gelu(launched: list[str]) -> None:
    arguments = (normal(2, 9, 64), normal(64, 1, 3, 3, seed=1), normal(64, seed=2), 3)
    on_cpu = operators.depthwise_gelu(*arguments)
    assert not launched
    torch.testing.assert_close(operators._depthwise_gelu_in_triton(*arguments), on_cpu, rtol=0, atol=1e-5)
    assert launched == ["depthwise_gelu"]


def narrow_fusion() -> Any:
    return operators._audio_visual_fusion_in_triton(*fusion_arguments(96, 64), "released")


def lost_table() -> Any:
    angles = normal(16, 64).double()
    return operators._memory_attention_in_triton(
        normal(16, 128), normal(32, 128), normal(32, 32), angles.cos(), angles.sin(), 0
    )


def double_precision() -> Any:
    tensors = (normal(2, 9, 64), normal(64, 1, 3, 3), normal(64))
    return operators._depthwise_gelu_in_triton(*(tensor.double() for tensor in tensors), 3)


@pytest.mark.parametrize(
    ("call", "named"),
    [(narrow_fusion, r"widths \(128, 256\)"), (lost_table, "float32"), (double_precision, "fp32, fp16, bf16")],
)
def test_what_no_kernel_was_written_for_is_refused(call: Callable[[], Any], named: str, launched: list[str]) -> None:
    with pytest.raises(KernelError, match=named):
        call()
    assert not launched


def test_unknown_forms_are_refused_on_every_device() -> None:
    with pytest.raises(KernelError, match="released, paper"):
        operators.audio_visual_fusion(*fusion_arguments(), "other")


@pytest.mark.parametrize("name", ["audio_visual_fusion", "memory_attention", "depthwise_gelu"])
def test_operators_pass_pytorchs_own_checks(name: str) -> None:
    """Schema, fake rule and tracing, by `torch.library.opcheck`."""
    angles = normal(16, 64)
    samples: dict[str, tuple[Any, ...]] = {
        "audio_visual_fusion": (*fusion_arguments(), "released"),
        "memory_attention": (normal(16, 128), normal(32, 128), normal(32, 32), angles.cos(), angles.sin(), 0),
        "depthwise_gelu": (normal(2, 9, 64), normal(64, 1, 3, 3), normal(64), 3),
    }
    torch.library.opcheck(getattr(operators, name), samples[name])


def test_the_network_needs_no_triton() -> None:
    """Triton is an extra: importing the network and its operators must not want it."""
    code = "import sys; sys.modules['triton'] = None; import auralsam2, kernels.operators"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
