"""On what the network computes, and how precisely: what a person may ask for, and a refusal where it is not there."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import torch

from auralsam2.errors import NetworkError

Device = Literal["cpu", "cuda"]
DEVICES: tuple[Device, ...] = get_args(Device)
AUTO = "auto"
Precision = Literal["bfloat16", "float32"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


def choose_device(asked: str) -> Device:
    """Find the device of a name: "cpu" | "cuda" | "auto", which is cuda where PyTorch sees a card.

    Raises: NetworkError for another name, and for "cuda" where PyTorch sees no card.
    """
    if asked == AUTO:
        return "cuda" if torch.cuda.is_available() else "cpu"
    for device in DEVICES:
        if asked == device:
            open_device(device)
            return device
    raise NetworkError(f"device {asked!r} is unknown; choose one of {', '.join((*DEVICES, AUTO))}.")


def open_device(device: Device) -> torch.device:
    """Give the device itself; of several cards the first that PyTorch sees (CUDA_VISIBLE_DEVICES chooses).

    Raises: NetworkError for "cuda" where PyTorch sees no card.
    """
    if device == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        built = torch.version.cuda
        kind, remedy = (
            ("a CPU build", "Install a CUDA build with: make setup TORCH=cuda")
            if built is None
            else (f"built for CUDA {built}", "Look for what is missing with: auralsam2 doctor")
        )
        raise NetworkError(
            f"device cuda: PyTorch {torch.__version__}, {kind}, sees no card. {remedy}, or take --device cpu."
        )
    return torch.device("cuda", 0)


def describe_device(device: torch.device) -> str:
    """Name a device for a log line: "cpu", or "cuda" with its card."""
    return f"cuda ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else device.type


def rounding(device: torch.device, precision: Precision) -> torch.autocast:
    """Open autocast to bfloat16 on the device, as the released scripts do it, or for "float32" none: a context.

    It rounds the operands of matrix products and convolutions; PyTorch's list of operators differs a little between
    CPUs and CUDA.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


@contextmanager
def explain_full_memory(device: torch.device) -> Iterator[None]:
    """Raise NetworkError with a way out where a card's memory does not suffice, in place of PyTorch's own words."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise NetworkError(
            f"the memory of {describe_device(device)} is full. Take fewer frames a clip or a smaller --image-size, end"
            " other programs that use the card, or take --device cpu."
        ) from error
