"""Whether a build's TensorRT engines may run on the cards that are here, without TensorRT and without the export room.

An engine runs on the model of card that it was built on, and says little when it is loaded on another. A manifest lies
beside each, written once the engine is whole: `model.plan.json`.
"""

import json
import os
from pathlib import Path
from typing import Any

from auralsam2_client.errors import ConfigError
from service.builds.gpu_memory import read_configs
from service.builds.gpus import Gpu
from service.builds.manifest import ENGINE_REMEDY

ENGINE = "1/model.plan"
RECORD_FORMAT = 1
FLAVOUR = "tensorrt"


def check_engines(build: Path, gpus: tuple[Gpu, ...]) -> None:
    """Compare the engine of every stage with its manifest and with every card.

    Sizes and figures only: `verify_files` compares the hashes.

    Raises: ConfigError naming the engine that is missing, not whole, or made for another card, and the command that
        builds it again.
    """
    stages = [name for name, config in read_configs(build / "models").items() if config.platform != "ensemble"]
    for stage in stages:
        engine = build / "models" / stage / ENGINE
        reason = _unfit(engine, gpus)
        if reason is not None:
            raise ConfigError(f"models/{stage}/{ENGINE} {reason}. {ENGINE_REMEDY.format(build=build)}")


def _unfit(engine: Path, gpus: tuple[Gpu, ...]) -> str | None:
    """What is wrong with an engine, as the rest of a sentence; None when nothing is."""
    if not engine.is_file():
        return "does not exist"
    try:
        record: dict[str, Any] = json.loads(engine.with_name(engine.name + ".json").read_text())
        if record["format"] != RECORD_FORMAT:
            return f"has a manifest of format {record['format']!r}; this version reads {RECORD_FORMAT}"
        flavour, version, num_bytes = str(record["flavour"]), str(record["version"]), int(record["engine_bytes"])
        capabilities, card = [int(each) for each in record["capabilities"]], record["gpu"]
    except FileNotFoundError:
        return f"has no manifest {engine.name}.json beside it, so its making was not finished"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"has a manifest {engine.name}.json that cannot be read ({type(error).__name__}: {error})"
    if flavour != FLAVOUR:
        return f"was built by {flavour} {version}; the server loads those of {FLAVOUR}"
    if engine.stat().st_size != num_bytes:
        return f"has {engine.stat().st_size} bytes, its manifest says {num_bytes}: half-written or altered"
    for gpu in gpus:
        if (card is not None and card != gpu.name) or (
            gpu.capability is not None and gpu.capability not in capabilities
        ):
            made_for = " and ".join(f"{each / 10:.1f}" for each in capabilities)
            return f"was built for {card or 'any card'} (compute capability {made_for}), and GPU {gpu.index} is {gpu}"
    return None


def check_engine_caches(models: Path) -> None:
    """Check the folders where ONNX Runtime keeps the engines that it builds at the first start.

    Raises: ConfigError where that folder is neither there nor can be made; the stage would not load.
    """
    for name, config in read_configs(models).items():
        for accelerator in config.optimization.execution_accelerators.gpu_execution_accelerator:
            folder = accelerator.parameters.get("trt_engine_cache_path")
            # ONNX Runtime makes the last folder of the path and none above it.
            if folder and not Path(folder).is_dir() and not os.access(Path(folder).parent, os.W_OK | os.X_OK):
                raise ConfigError(
                    f"{name}/config.pbtxt keeps its engines in {folder}, and {Path(folder).parent} is not there or"
                    " cannot be written. Make that folder for this user, or mount a volume on it."
                )
