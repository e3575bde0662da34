"""How much memory a server is told to set aside on its GPUs, from the tensors that the build's configurations name.

The server keeps a pool on each card for what crosses between stages. Its default of 64 MiB is less than one map of
a large preset, and a pool that is full says nothing: the maps then go through the host's memory.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from auralsam2_client.errors import ConfigError
from service.builds.manifest import REMEDY

# One clip is being answered while the next arrives. A third that waits between stages is served too, but its maps may
# lie in the host's memory meanwhile.
CLIPS_IN_FLIGHT = 2
# The server's own default, so that a pool is never smaller, and figures stay readable.
POOL_STEP_BYTES = 64 << 20
ELEMENT_BYTES = {
    **dict.fromkeys(("BOOL", "UINT8", "INT8"), 1),
    **dict.fromkeys(("UINT16", "INT16", "FP16", "BF16"), 2),
    **dict.fromkeys(("UINT32", "INT32", "FP32"), 4),
    **dict.fromkeys(("UINT64", "INT64", "FP64"), 8),
}


class Sized(Protocol):
    """A card, as nvidia-smi or the driver tells of it."""

    @property
    def index(self) -> int: ...

    @property
    def name(self) -> str: ...

    @property
    def memory_bytes(self) -> int | None: ...


@dataclass(frozen=True)
class GpuMemory:
    """What a build needs; bytes."""

    cuda_pool_bytes: int
    """On each card: inputs and outputs of every stage, for the clips in flight."""
    pinned_pool_bytes: int
    """On the host: what callers send and get, for the clips in flight."""
    weights_bytes: int
    """Engines or graphs on disk; each card holds all of them."""

    def flags(self, gpus: Sequence[Sized]) -> list[str]:
        """List the server's flags. Raises: ConfigError when a card has less than pool and weights together."""
        for gpu in gpus:
            self._check_fits(gpu)
        pools = [f"--cuda-memory-pool-byte-size={gpu.index}:{self.cuda_pool_bytes}" for gpu in gpus]
        return [*pools, f"--pinned-memory-pool-byte-size={self.pinned_pool_bytes}"]

    def _check_fits(self, gpu: Sized) -> None:
        needed = self.cuda_pool_bytes + self.weights_bytes
        if gpu.memory_bytes is not None and gpu.memory_bytes < needed:
            raise ConfigError(
                f"GPU {gpu.index}, {gpu.name}, has {_mib(gpu.memory_bytes)}, and at least {_mib(needed)} are needed:"
                f" {_mib(self.cuda_pool_bytes)} for what crosses between the stages, {_mib(self.weights_bytes)} of"
                " weights. Take a larger card, or export fewer frames, smaller images or a smaller preset."
            )

    def __str__(self) -> str:
        return (
            f"pools of {_mib(self.cuda_pool_bytes)} on each card and {_mib(self.pinned_pool_bytes)} on the host;"
            f" weights {_mib(self.weights_bytes)}"
        )


def read_configs(models: Path) -> dict[str, Any]:
    """Read and parse every `config.pbtxt` of a model repository, by model.

    Raises: ConfigError naming the file that cannot be read.
    """
    configs = {}
    for path in sorted(models.glob("*/config.pbtxt")):
        try:
            configs[path.parent.name] = text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())
        except (OSError, ValueError, text_format.ParseError) as error:
            raise ConfigError(f"{path} cannot be read: {error}. {REMEDY}") from error
    return configs


def plan_memory(models: Path) -> GpuMemory:
    """Add up what the models of a repository need. Raises: ConfigError naming a tensor that has no fixed size."""
    stages = ensemble = 0
    for name, config in read_configs(models).items():
        clip = sum(_tensor_bytes(name, config, entry) for entry in (*config.input, *config.output))
        if config.platform == "ensemble":
            ensemble += clip
        else:
            stages += clip
    weights = sum(path.stat().st_size for path in models.glob("*/*/*") if path.is_file())
    return GpuMemory(_pool_bytes(stages), _pool_bytes(ensemble), weights)


def _pool_bytes(clip_bytes: int) -> int:
    return max(1, math.ceil(CLIPS_IN_FLIGHT * clip_bytes / POOL_STEP_BYTES)) * POOL_STEP_BYTES


def _tensor_bytes(model: str, config: Any, entry: Any) -> int:
    kind = model_config_pb2.DataType.Name(entry.data_type).removeprefix("TYPE_")
    if kind not in ELEMENT_BYTES or any(dim < 1 for dim in entry.dims):
        raise ConfigError(
            f"{model}/config.pbtxt: {entry.name} is {kind} {list(entry.dims)}; a served tensor has a fixed size."
            f" {REMEDY}"
        )
    elements: int = max(1, config.max_batch_size) * math.prod(entry.dims)
    return elements * ELEMENT_BYTES[kind]


def _mib(num_bytes: int) -> str:
    return f"{math.ceil(num_bytes / (1 << 20))} MiB"
