"""Shared memory that the Python stages of a build need: known before the server starts, so it is said then.

Each stage has a region that holds the tensors of the request it works on, in and out. It begins with a default size and
grows by steps. What does not fit in /dev/shm is found out by the first clip otherwise, as a fault of the server.
"""

import math
import shutil
from pathlib import Path
from typing import Any

from tritonclient.grpc import model_config_pb2

from auralsam2_client.contract import SESSION_SUFFIX
from auralsam2_client.errors import ConfigError
from service.builds.gpu_memory import ELEMENT_BYTES, read_configs
from service.monitoring.metrics import FEATURES_SUFFIX

FOLDER = Path("/dev/shm")
# The table of clips in flight, and what the file system keeps for itself.
BESIDE_BYTES = 1 << 20
MIB = 1 << 20


def needed_bytes(models: Path, default_bytes: int, growth_bytes: int, *, on_cards: bool = False) -> int:
    """Add up the regions of all Python stages, each as large as one request makes it.

    Args:
        models: the repository; its tensors have fixed shapes.
        default_bytes, growth_bytes: with which a region begins, and by which it grows.
        on_cards: tensors stay on a card, so that regions keep the size with which they begin.
    """
    configs = read_configs(models)
    total = BESIDE_BYTES
    for name, config in configs.items():
        if config.backend != "python":
            continue
        held = 0 if on_cards else _request_bytes(config)
        if name.endswith(SESSION_SUFFIX) and not on_cards:
            # It calls the stages that make a clip's features, and holds what they get and answer.
            held += sum(_request_bytes(other) for key, other in configs.items() if key.endswith(FEATURES_SUFFIX))
        grown = math.ceil(max(0, held - default_bytes) / growth_bytes) * growth_bytes
        total += max(1, sum(group.count for group in config.instance_group)) * (default_bytes + grown)
    return total


def most_bytes(models: Path, default_bytes: int, growth_bytes: int) -> int:
    """Tell how large one stage's region may become: twice what one clip takes in all stages, growth in steps.

    A usual clip stays far below, also where several wait in one stage, or come in both forms of the frames. What lies
    beyond is no clip: files have no fixed size, and the server takes them up to 2 GB before a stage sees them.
    """
    return 2 * needed_bytes(models, default_bytes, growth_bytes)


def free_bytes() -> int:
    """Read how many bytes are free in /dev/shm. Raises: OSError where there is none."""
    return shutil.disk_usage(FOLDER).free


def check_shared_memory(needed: int) -> None:
    """Compare a need with what is free. Raises: ConfigError with both figures and the way out."""
    try:
        free = free_bytes()
    except OSError as error:
        raise ConfigError(f"{FOLDER} cannot be used ({error.strerror}); the stages pass tensors on in it.") from error
    if free < needed:
        raise ConfigError(
            f"{FOLDER} has {free // MIB} MiB free, and this build's stages need {math.ceil(needed / MIB)} MiB: give it"
            " more (--shm-size 1g of a container), or end what fills it."
        )


def _request_bytes(config: Any) -> int:
    batch: int = max(1, config.max_batch_size)
    return batch * sum(_tensor_bytes(entry) for entry in (*config.input, *config.output))


def _tensor_bytes(entry: Any) -> int:
    kind = model_config_pb2.DataType.Name(entry.data_type).removeprefix("TYPE_")
    # Text, as the name of a mode, is a few bytes.
    elements: int = math.prod(max(1, dim) for dim in entry.dims)
    return elements * ELEMENT_BYTES.get(kind, 0)
