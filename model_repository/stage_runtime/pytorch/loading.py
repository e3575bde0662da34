"""A model of the server finds its network: where it lies, on which device it is placed, once a process."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from auralsam2_client.contract import Parameter

from ..engine import EngineError, cache_dir_from_environment
from .compile_cache import CompileCache
from .device.failures import Card
from .network import Network
from .placing import Placing


@dataclass(frozen=True)
class Placed:
    """A network, and how its stages come onto the device of this process."""

    network: Network
    placing: Placing
    card: Card
    compiled: CompileCache


def load_placed(args: Mapping[str, str], parameters: Mapping[str, str], report: Callable[[str], None]) -> Placed:
    """Read the network of a build and choose the device that the server gave to this instance.

    Args:
        args: of the python backend's `initialize`.
        report: gets a line about what was found in the cache of compiled code.
    Raises: EngineError when a file is missing or altered, or PyTorch sees no card where one is needed.
    """
    folder = Path(args["model_repository"]).parent / parameters[Parameter.NETWORK] / args["model_version"]
    network = Network(folder)
    device = torch.device("cpu")
    if network.description.device == "cuda":
        if not torch.cuda.is_available():
            raise EngineError(
                f"PyTorch {torch.__version__} sees no card, and this build computes on one. Run `auralsam2 doctor`, or"
                " export with --device cpu."
            )
        device = torch.device("cuda", int(args["model_instance_device_id"]))
        torch.cuda.set_device(device)
    card = Card.of(device)
    compiled = CompileCache(cache_dir_from_environment(), card.name, network.description, report)
    return Placed(network, Placing(network.description, device), card, compiled)
