"""The server's python backend on one side, a Stage on the other. Every stage's model.py is this class with a name."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from .engine import cache_dir_from_environment, check_hash, load_engine, resolve_precision
from .stage import BadRequest, Stage, TensorShape

MODEL_FILE = "model.onnx"


def _tensors(entries: list[dict[str, Any]]) -> list[TensorShape]:
    return [
        TensorShape(
            entry["name"],
            np.dtype(pb_utils.triton_string_to_numpy(entry["data_type"])),
            tuple(int(dim) for dim in entry["dims"]),
        )
        for entry in entries
    ]


class StageModel:
    """Answers each request by itself: one bad request fails alone, with its own message and INVALID_ARGUMENT."""

    def initialize(self, args: dict[str, str]) -> None:
        """Check the graph's hash, load it, compare it with config.pbtxt. Any failure stops the server's start."""
        config = json.loads(args["model_config"])
        parameters = {name: value["string_value"] for name, value in config["parameters"].items()}
        path = Path(args["model_repository"]) / args["model_version"] / MODEL_FILE
        check_hash(path, parameters["sha256"])
        self._name = args["model_name"]
        precision = resolve_precision(parameters["engine"], parameters["precision"])
        pb_utils.Logger.log_info(f"{self._name}: {parameters['engine']} computes in {precision}")
        engine = load_engine(parameters["engine"], path, precision=precision, cache_dir=cache_dir_from_environment())
        self._stage = Stage(
            engine, _tensors(config["input"]), _tensors(config["output"]), int(parameters["frames_per_call"])
        )
        self._input_names = [entry["name"] for entry in config["input"]]

    def execute(self, requests: list[Any]) -> list[Any]:
        # The server reads the answers after the last of them is computed, and an answer's arrays are the engine's own
        # memory, valid until its next call. A lone request, the only case without a batcher, needs no copy.
        return [self._answer(request, keep=len(requests) > 1) for request in requests]

    def _answer(self, request: Any, keep: bool) -> Any:
        if request.is_cancelled():
            return _failed(f"{self._name}: cancelled by the caller before it ran.", pb_utils.TritonError.CANCELLED)
        try:
            inputs = {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self._input_names}
            answer = self._stage(inputs)
            wanted = set(request.requested_output_names())
            tensors = [
                pb_utils.Tensor(name, value.copy() if keep else value)
                for name, value in answer.items()
                if name in wanted
            ]
            return pb_utils.InferenceResponse(output_tensors=tensors)
        except BadRequest as error:
            return _failed(str(error), pb_utils.TritonError.INVALID_ARG)
        except Exception as error:  # noqa: BLE001  (the server would send file paths and lines to the client)
            pb_utils.Logger.log_error(f"{self._name}: request {request.request_id()!r} failed: {error!r}")
            return _failed(f"{self._name}: failed inside the server; see its log.", pb_utils.TritonError.INTERNAL)


def _failed(message: str, code: Any) -> Any:
    return pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(message, code))
