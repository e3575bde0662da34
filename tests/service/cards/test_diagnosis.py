"""What the doctor says of cards, one line each, from what a stand-in driver shows."""

from dataclasses import replace
from pathlib import Path

import pytest

from service.cards.diagnosis import count_hardware, diagnose
from service.cards.driver import Seen
from service.cards.onnx_provider import LinkedProvider, find_provider
from service.cards.torch_build import TorchBuild
from service.findings import Finding
from tests.service.cards.stand_in_driver import GIB, H200, L4, NO_DRIVER, seeing

CPU_TORCH, CUDA_TORCH = TorchBuild("2.13.0+cpu", None), TorchBuild("2.13.0", (13, 0))
PROVIDER = LinkedProvider("1.31.1", 10)


def lines(
    seen: Seen,
    torch: TorchBuild | None = CUDA_TORCH,
    provider: LinkedProvider | None = None,
    tensorrt: str | None = None,
    num_on_bus: int = 1,
    compiler: str | None = "/usr/bin/gcc",
) -> dict[str, Finding]:
    found = diagnose(seen, torch, provider, tensorrt, num_on_bus, compiler)
    # Whatever is missing has a fix, and nothing here stops those who serve on the CPU.
    assert all((each.ok or each.fix) and each.needed_for for each in found)
    return {each.name: each for each in found}


def test_a_machine_that_is_ready() -> None:
    found = lines(seeing(H200))
    assert all(each.ok for each in found.values())
    assert found["gpu driver"].found == "driver 580.95.05, CUDA up to 13.0"
    assert found["torch for a gpu"].found == "2.13.0"


def test_on_a_cpu_nothing_is_missing() -> None:
    found = lines(NO_DRIVER, CPU_TORCH, PROVIDER, "11.2.1", num_on_bus=0)
    assert all(each.ok and "not needed on a CPU" in each.found for each in found.values())
    # As many lines as on a machine with a card.
    assert set(found) == set(lines(seeing(H200)))


def test_a_card_without_a_driver() -> None:
    found = lines(NO_DRIVER, num_on_bus=2)["gpu driver"]
    assert not found.ok
    assert found.found.startswith("2 on the PCI bus, and no NVIDIA driver is installed")
    assert "driver 580 or newer" in found.fix


def test_a_machine_without_a_compiler() -> None:
    found = lines(seeing(H200), compiler=None)["C compiler"]
    assert not found.ok
    assert "gcc" in found.fix


@pytest.mark.parametrize("torch", [CUDA_TORCH, CPU_TORCH, None])
def test_a_driver_too_old(torch: TorchBuild | None) -> None:
    found = lines(seeing(H200, version="570.86.10", cuda=(12, 8)), torch)["gpu driver"]
    assert not found.ok
    assert found.found == "driver 570.86.10, CUDA up to 12.8"
    # A torch for CUDA 12 runs on it.
    assert lines(seeing(H200, cuda=(12, 8)), TorchBuild("2.13.0+cu128", (12, 8)))["gpu driver"].ok


@pytest.mark.parametrize(
    ("torch", "words"), [(CPU_TORCH, "2.13.0+cpu, a CPU build"), (None, "missing")], ids=["cpu", "none"]
)
def test_a_cpu_build_of_torch(torch: TorchBuild | None, words: str) -> None:
    found = lines(seeing(H200), torch)["torch for a gpu"]
    assert (found.ok, found.found) == (False, words)
    assert found.fix == "Install a CUDA build: make setup TORCH=cuda"


def test_little_free_memory_and_a_lost_card() -> None:
    busy = replace(H200, free_bytes=5 * GIB)
    found = lines(seeing(busy))["gpu"]
    assert not found.ok
    assert "5120 MiB free of 142336" in found.found
    assert "6144 MiB" in found.fix
    assert lines(seeing(busy, L4))["gpu"].ok
    assert lines(seeing(replace(H200, free_bytes=None)))["gpu"].ok
    lost = lines(seeing(L4, reason="card 0 does not answer (GPU is lost)"))["gpu"]
    assert lost.found.endswith("; card 0 does not answer (GPU is lost)")


def test_cards_that_are_hidden() -> None:
    found = lines(seeing(reason="CUDA_VISIBLE_DEVICES=-1 hides all 1"))["gpu"]
    assert (found.ok, found.found) == (False, "CUDA_VISIBLE_DEVICES=-1 hides all 1")


def test_onnx_runtime_beside_another_tensorrt() -> None:
    found = lines(seeing(H200), provider=PROVIDER, tensorrt="11.4.0")["TensorRT of ONNX Runtime"]
    assert not found.ok
    assert found.found == "onnxruntime 1.31.1 links libnvinfer 10, and TensorRT is 11.4.0: it falls to CUDA"
    assert "For TensorRT install version 10" in found.fix
    for tensorrt in ("10.9.0", None, "present"):
        assert lines(seeing(H200), provider=PROVIDER, tensorrt=tensorrt)["TensorRT of ONNX Runtime"].ok


def test_what_a_provider_links_is_read_from_its_file(tmp_path: Path) -> None:
    assert find_provider(tmp_path) is None
    library = tmp_path / "capi" / "libonnxruntime_providers_tensorrt.so"
    library.parent.mkdir()
    for content, nvinfer in ((b"", None), (b"\x7fELF libcudart.so.13\x00", None), (b"\x00libnvinfer.so.10\x00", 10)):
        library.write_bytes(content)
        provider = find_provider(tmp_path)
        assert (None if provider is None else provider.nvinfer) == nvinfer


def test_cards_are_counted_on_the_pci_bus(tmp_path: Path) -> None:
    assert count_hardware(tmp_path / "none") == 0
    # A card, its sound device, another vendor's card, a device that says nothing.
    for name, vendor, kind in (
        ("a", "0x10de", "0x030200"),
        ("b", "0x10de", "0x040300"),
        ("c", "0x1002", "0x030000"),
        ("d", "", ""),
    ):
        (tmp_path / name).mkdir()
        if vendor:
            (tmp_path / name / "vendor").write_text(f"{vendor}\n")
            (tmp_path / name / "class").write_text(f"{kind}\n")
    assert count_hardware(tmp_path) == 1
