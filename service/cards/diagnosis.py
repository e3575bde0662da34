"""What this machine lacks for serving on its cards, a line each; where it has none, that nothing is needed."""

from pathlib import Path

from service.cards.checks import CardError, Need, check_driver, check_torch
from service.cards.driver import LEAST_DRIVER, Seen
from service.cards.onnx_provider import LinkedProvider
from service.cards.torch_build import CUDA_BUILD, TorchBuild
from service.findings import Finding

GPU_SERVING = "serving on GPUs"
CUDA_EXPORT = "export --target cuda"
NOT_NEEDED = "not needed on a CPU"
# A prototype of the service used 3 to 5 GB with hiera_base_plus at 1024 px; the compact network needs less.
ENOUGH_FREE = 6 << 30
PCI_DEVICES = Path("/sys/bus/pci/devices")
_NVIDIA, _DISPLAY = "0x10de", "0x03"


def count_hardware(devices: Path = PCI_DEVICES) -> int:
    """Count NVIDIA's cards on the PCI buses, which are there without a driver too."""

    def says(device: Path, name: str) -> str:
        try:
            return (device / name).read_text().strip()
        except OSError:
            return ""

    try:
        found = list(devices.iterdir())
    except OSError:
        return 0
    return sum(says(each, "vendor") == _NVIDIA and says(each, "class").startswith(_DISPLAY) for each in found)


def diagnose(
    seen: Seen,
    torch: TorchBuild | None,
    provider: LinkedProvider | None,
    tensorrt: str | None,
    num_on_bus: int,
    compiler: str | None,
) -> list[Finding]:
    """List what is there and what is missing for a card.

    Args:
        seen: what the driver says.
        torch: the installed one, if any.
        provider: ONNX Runtime's for TensorRT, if any.
        tensorrt: version of the installed package, if any.
        num_on_bus: cards that `count_hardware` found.
        compiler: the C compiler on PATH, if any.
    """
    if seen.version is None and not num_on_bus:
        lines = {"gpu driver": f"{NOT_NEEDED}; {seen.reason}", "gpu": "none; " + NOT_NEEDED}
        lines["torch for a gpu"] = NOT_NEEDED if torch is None else f"{NOT_NEEDED}; torch {torch.version}"
        lines["C compiler"] = lines["TensorRT of ONNX Runtime"] = NOT_NEEDED
        return [Finding(name, True, found, needed_for=GPU_SERVING) for name, found in lines.items()]
    return [
        _driver(seen, torch, num_on_bus),
        _cards(seen),
        _torch(torch),
        _compiler(compiler),
        _provider(provider, tensorrt),
    ]


def _driver(seen: Seen, torch: TorchBuild | None, num_on_bus: int) -> Finding:
    name, least = "gpu driver", LEAST_DRIVER[max(LEAST_DRIVER)]
    install = f"Install NVIDIA's driver {least} or newer; in a container, start it with --gpus all."
    if seen.version is None:
        return Finding(name, False, f"{num_on_bus} on the PCI bus, and {seen.reason}", install, GPU_SERVING)
    # Without a CUDA build, what set-up would install decides.
    built_for = torch.cuda if torch is not None and torch.cuda is not None else (max(LEAST_DRIVER), 0)
    try:
        check_driver(Need(cuda=built_for), seen)
    except CardError:
        return Finding(name, False, str(seen), install, GPU_SERVING)
    return Finding(name, True, str(seen), needed_for=GPU_SERVING)


def _cards(seen: Seen) -> Finding:
    name = "gpu"
    if not seen.cards:
        fix = "Give this user a card: unset CUDA_VISIBLE_DEVICES; in a container, --gpus all."
        return Finding(name, False, seen.reason, fix, GPU_SERVING)
    found = []
    for card in seen.cards:
        free = "" if card.free_bytes is None else f", {card.free_bytes >> 20} MiB free"
        total = "" if card.memory_bytes is None else f" of {card.memory_bytes >> 20}"
        found.append(f"{card}{free}{total}")
    enough = any(card.free_bytes is None or card.free_bytes >= ENOUGH_FREE for card in seen.cards)
    fix = f"End what else runs there: hiera_base_plus at 1024 px takes up to {ENOUGH_FREE >> 20} MiB, others less."
    lost = [seen.reason] if seen.reason else []
    return Finding(name, enough, "; ".join([*found, *lost]), fix, GPU_SERVING)


def _torch(torch: TorchBuild | None) -> Finding:
    name = "torch for a gpu"
    try:
        check_torch(torch)
    except CardError:
        found = "missing" if torch is None else f"{torch.version}, a CPU build"
        return Finding(name, False, found, f"Install a CUDA build: {CUDA_BUILD}", CUDA_EXPORT)
    assert torch is not None
    return Finding(name, True, torch.version, needed_for=CUDA_EXPORT)


def _compiler(compiler: str | None) -> Finding:
    """Triton builds what launches a kernel with it, at a first start."""
    name, fix = "C compiler", "Install one, with Python's headers: apt-get install gcc libc6-dev python3-dev"
    return Finding(name, compiler is not None, compiler or "none on PATH", fix if compiler is None else "", CUDA_EXPORT)


def _provider(provider: LinkedProvider | None, tensorrt: str | None) -> Finding:
    name, use = "TensorRT of ONNX Runtime", "ONNX Runtime with TensorRT"
    if provider is None:
        return Finding(name, True, "not installed; only NVIDIA's image uses it", needed_for=use)
    linked = f"onnxruntime {provider.version} links libnvinfer {provider.nvinfer}"
    major = "" if tensorrt is None else tensorrt.split(".")[0]
    if not major.isdigit() or int(major) == provider.nvinfer:
        return Finding(name, True, linked, needed_for=use)
    fix = (
        f"Nothing breaks: it computes with CUDA instead. For TensorRT install version {provider.nvinfer}, or serve from"
        " NVIDIA's image."
    )
    return Finding(name, False, f"{linked}, and TensorRT is {tensorrt}: it falls to CUDA", fix, use)
