"""A build for target cuda: the network in PyTorch, read back from disk, placed on its device and compared there."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch

from auralsam2 import AuralSAM2
from auralsam2.stages.clip_stages import Stage
from export.builds.golden_requests import golden_pairs
from export.builds.models import write_pytorch_models
from export.builds.triton_config import network_model
from export.errors import ExportError
from export.gates.prompt_gate import pass_prompt_gate
from export.gates.stage_gate import GateResult, pass_gate
from export.gates.wire_gate import keeps_masks
from export.reports import Report
from export.settings import ExportSettings
from model_repository.stage_runtime.pytorch.compile_cache import CompileCache
from model_repository.stage_runtime.pytorch.network import Network, NetworkDescription, write_network
from model_repository.stage_runtime.pytorch.placing import Placing
from model_repository.stage_runtime.pytorch.prompted import load_prompted_decoder

Array = npt.NDArray[Any]
# Beside PyTorch's own at its peak, for each process: the CUDA context, its libraries and the kernels' code.
CONTEXT_BYTES = 1 << 30
# Of a server: itself, sessions, and the whole network or each of the four stages.
NUM_PROCESSES = {"one-process": 3, "ensemble": 6}


@dataclass(frozen=True)
class CardUsed:
    """The card on which a build was compared, for the manifest."""

    name: str
    capability: int
    """10 x major + minor."""
    memory_bytes: int
    """That a start needs: the peak here, and a context for each process. Sessions take more as they come."""


def choose_device(settings: ExportSettings) -> torch.device:
    """Choose where a build is compared. Raises: ExportError when PyTorch sees no card and one is needed."""
    if not settings.on_card:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        kind = "a CPU build" if torch.version.cuda is None else f"built for CUDA {torch.version.cuda}"
        raise ExportError(
            f"target cuda compares its masks on a card, and PyTorch {torch.__version__}, {kind}, sees none. Run"
            " `auralsam2 doctor`, or export with --device cpu, which computes the same without a card."
        )
    return torch.device("cuda", torch.cuda.current_device())


def fill_pytorch(
    settings: ExportSettings,
    build: Path,
    model: AuralSAM2,
    stages: tuple[Stage, ...],
    clip: dict[str, Array],
    report: Report,
) -> tuple[GateResult, CardUsed | None]:
    """Write weights and models of a build, once what was read back from disk has passed the gate.

    Returns: what the gate measured, and the card; None on a CPU.
    Raises: ExportError, ParityError.
    """
    device = choose_device(settings)
    folder = build / "models" / network_model(settings) / "1"
    description = write_network(
        folder,
        NetworkDescription(
            settings.preset,
            settings.size,
            settings.num_frames,
            settings.conditioning_frame,
            settings.read_out,
            settings.precision,
            settings.device,
        ),
        model,
    )
    network = Network(folder)
    placing = Placing(network.description, device)
    placed = network.stages()
    report(f"checking   {settings.precision} on {_name(device)}")
    result = pass_gate(
        settings,
        model,
        stages,
        lambda name: placing.stage(placed[name]),
        settings.precision,
        clip,
        report,
    )
    decoder = load_prompted_decoder(network, placing)
    result.parity.extend(
        pass_prompt_gate(settings, model, decoder, settings.precision, result.features.network, report)
    )
    result.prompted.extend(golden_pairs(settings, model, decoder, result))
    if settings.on_card:
        # What was compiled here travels with the build: its first start compiles no more.
        cache = build / "cache"
        cache.mkdir()
        CompileCache(cache, _name(device), network.description, report).write()
    write_pytorch_models(
        settings,
        stages,
        build / "models",
        description.sha256,
        jpeg_keeps_masks=keeps_masks(result.jpeg_iou),
    )
    return result, _card_used(device, settings.layout)


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "this CPU"


def _card_used(device: torch.device, layout: str) -> CardUsed | None:
    if device.type != "cuda":
        return None
    major, minor = torch.cuda.get_device_capability(device)
    peak = torch.cuda.max_memory_reserved(device)
    return CardUsed(_name(device), 10 * major + minor, peak + NUM_PROCESSES[layout] * CONTEXT_BYTES)
