"""The graphs of a build, run one after another in this process, with the seconds that each stage's engine took."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from auralsam2_client.contract import STAGE_NAMES
from export.graphs.chain import run_chain
from model_repository.stage_runtime.engine import Array, Engine, load_engine
from service.builds.manifest import read_manifest


class TimedEngine:
    """An engine that adds up the seconds of its calls."""

    def __init__(self, engine: Engine) -> None:
        self.input_shapes, self.output_shapes = engine.input_shapes, engine.output_shapes
        self.spent_s = 0.0
        self._engine = engine

    def __call__(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        started = time.perf_counter()
        answer = self._engine(inputs)
        self.spent_s += time.perf_counter() - started
        return answer


class EngineChain:
    """The four graphs of a build in this process; `run` takes a clip through all of them."""

    def __init__(self, build: Path) -> None:
        manifest = read_manifest(build)
        self.spent: dict[str, float] = {}
        """Seconds in each stage's engine calls, of the last clip."""
        self._engines = {
            name: TimedEngine(
                load_engine(
                    manifest.engine,
                    build / "models" / name / "1" / "model.onnx",
                    precision=manifest.precision,
                    cache_dir=build / "cache",
                )
            )
            for name in STAGE_NAMES
        }

    def run(self, frames: np.ndarray[Any, Any], audio: np.ndarray[Any, Any]) -> tuple[dict[str, Any], float]:
        """Run a clip [T, S, S, 3] uint8, [T, 15600, 2] float32: every tensor by name, seconds in engine calls alone."""
        for engine in self._engines.values():
            engine.spent_s = 0.0
        values = run_chain(self._engines, {"FRAMES": frames, "AUDIO": audio})
        self.spent = {name: engine.spent_s for name, engine in self._engines.items()}
        return values, sum(self.spent.values())
