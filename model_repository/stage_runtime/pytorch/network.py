"""The network of a build: its weights with their description beside a model, and the stages made from them."""

import copy
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from auralsam2 import AuralSAM2
from auralsam2.network.precision import PRECISIONS
from auralsam2.network.readout import ReadOut
from auralsam2.stages.clip_stages import Stage, build_stages
from auralsam2.stages.prompt_stages import memory_sizes, prompt_constants, prompt_stages

from ..engine import Array, EngineError, check_hash, file_sha256

DESCRIPTION, WEIGHTS = "network.json", "network.safetensors"
DEVICES = ("cuda", "cpu")


@dataclass(frozen=True)
class NetworkDescription:
    """What a network is made from, beside its weights."""

    preset: str
    image_size: int
    num_frames: int
    conditioning_frame: int
    read_out: ReadOut
    precision: str
    """float32 | float16 | bfloat16: what its stages compute in. Log-mel and positions stay in float32."""
    device: str
    """cuda | cpu."""
    sha256: str = ""
    """Of the file of weights; empty before it is written."""


def write_network(folder: Path, description: NetworkDescription, model: AuralSAM2) -> NetworkDescription:
    """Write the weights of `model`, float32 under released names, and their description into `folder`."""
    state = {name: value.detach().contiguous().clone() for name, value in model.state_dict().items()}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(state, folder / WEIGHTS)
    whole = NetworkDescription(**asdict(description) | {"sha256": file_sha256(folder / WEIGHTS)})
    (folder / DESCRIPTION).write_text(json.dumps(asdict(whole), indent=2) + "\n")
    return whole


def read_description(folder: Path) -> NetworkDescription:
    """Read what `write_network` wrote. Raises: EngineError naming the file and the way out."""
    path = folder / DESCRIPTION
    try:
        record: Any = json.loads(path.read_text())
        names = {field.name for field in fields(NetworkDescription)}
        if not isinstance(record, dict) or set(record) != names:
            raise ValueError(f"it must have {', '.join(sorted(names))}")
        description = NetworkDescription(**record)
    except (OSError, ValueError) as error:
        raise EngineError(f"{path.name} cannot be used: {error}. Write it again: auralsam2 export") from error
    for name, known in (("precision", PRECISIONS), ("device", DEVICES)):
        if (value := getattr(description, name)) not in known:
            raise EngineError(f"{path.name}: {name} {value!r}; must be one of {', '.join(known)}.")
    return description


class Network:
    """Weights that were read and compared with their hash, once a process; stages are made from them."""

    def __init__(self, folder: Path) -> None:
        """Read the network in `folder`. Raises: EngineError when a file is missing or altered."""
        self.description = read_description(folder)
        check_hash(folder / WEIGHTS, self.description.sha256)
        with torch.no_grad():
            self._model = AuralSAM2.from_preset(self.description.preset, self.description.image_size)
            self._model.load_state_dict(load_file(folder / WEIGHTS))

    def stages(self) -> dict[str, Stage]:
        """Make the four stages of a clip, by name, for whole clips, in float32 on the CPU."""
        one = self.description
        with torch.no_grad():
            # A copy: what is cast to a narrow type stays so.
            made = build_stages(
                copy.deepcopy(self._model),
                one.num_frames,
                one.conditioning_frame,
                one.read_out,
                hiera_frames_per_call=one.num_frames,
            )
        return {stage.name: stage for stage in made}

    def prompt_stages(self) -> dict[str, Stage]:
        """Make the stages that track prompts, by name, in float32 on the CPU."""
        with torch.no_grad():
            return {stage.name: stage for stage in prompt_stages(self._model, self.description.num_frames)}

    def memory_sizes(self) -> tuple[int, ...]:
        """List for how many remembered frames there is a stage that reads them."""
        return memory_sizes(self.description.num_frames)

    def constants(self) -> dict[str, Array]:
        """Give what the loop around the prompts' stages adds, by name, float32."""
        return {name: value.numpy() for name, value in prompt_constants(self._model).items()}


class InPrecision(nn.Module):
    """A stage that computes in one type and is asked in float32, as the contract has its tensors.

    What is given in float32 is cast, but for samples of sound: log-mel stays in float32. Integers pass.
    """

    def __init__(self, module: nn.Module, dtype: torch.dtype, keeps_input: bool = False) -> None:
        super().__init__()
        self.module, self.dtype, self.keeps_input = module, dtype, keeps_input

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Compute as the module does; outputs are float32."""
        given = inputs
        if not self.keeps_input:
            given = tuple(value.to(self.dtype) if value.is_floating_point() else value for value in inputs)
        answer: Any = self.module(*given)
        return tuple(value.float() for value in (answer if isinstance(answer, tuple) else (answer,)))
