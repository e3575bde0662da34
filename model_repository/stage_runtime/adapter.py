"""The server's python backend on one side, a Stage on the other. Every stage's model.py is this class with a name."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from .clip_table import ClipTable, Refused, table_path
from .engine import cache_dir_from_environment, check_hash, load_engine
from .passage import Passage, Role
from .stage import BadRequest, Stage, TensorShape
from .telemetry import Telemetry

MODEL_FILE = "model.onnx"
# What a clip is asked with. A label of metrics must be of a small set, whatever a caller writes.
PROMPTS = ("audio", "points", "box", "mask", "points+box", "audio+points+box", "text")


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
        engine = load_engine(
            parameters["engine"], path, precision=parameters["precision"], cache_dir=cache_dir_from_environment()
        )
        self._name = args["model_name"]
        self._stage = Stage(
            engine, _tensors(config["input"]), _tensors(config["output"]), int(parameters["frames_per_call"])
        )
        self._input_names = [entry["name"] for entry in config["input"]]
        labels = {"model": parameters.get("preset", ""), "precision": parameters["precision"]}
        # Every stage of a server is a child of the same process.
        table = ClipTable(table_path(os.environ.get("AURALSAM2_LAUNCH", ""), os.getppid()))
        role = Role.from_parameters(self._name, parameters)
        self._passage = Passage(role, table, Telemetry(pb_utils, labels), int(config["input"][0]["dims"][0]))

    def finalize(self) -> None:
        self._passage.close()

    def execute(self, requests: list[Any]) -> list[Any]:
        # The server reads the answers after the last of them is computed, and an answer's arrays are the engine's own
        # memory, valid until its next call. A lone request, the only case without a batcher, needs no copy.
        return [self._answer(request, keep=len(requests) > 1) for request in requests]

    def _answer(self, request: Any, keep: bool) -> Any:
        clip, passage = request.request_id(), self._passage
        if request.is_cancelled():
            passage.fail(clip, "cancelled")
            return _failed(f"{self._name}: cancelled by the caller before it ran.", pb_utils.TritonError.CANCELLED)
        try:
            passage.enter(clip, request.timeout())
            inputs = {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self._input_names}
            answer = self._stage(inputs)
            wanted = set(request.requested_output_names())
            tensors = [
                pb_utils.Tensor(name, value.copy() if keep else value)
                for name, value in answer.items()
                if name in wanted
            ]
            response = pb_utils.InferenceResponse(output_tensors=tensors)
            passage.leave(clip, inputs, _prompts(request))
            return response
        except Refused as refused:
            return _failed(f"{self._name}: {refused}.", pb_utils.TritonError.UNAVAILABLE)
        except BadRequest as error:
            passage.fail(clip, "bad_request")
            return _failed(str(error), pb_utils.TritonError.INVALID_ARG)
        except Exception as error:  # noqa: BLE001  (the server would send file paths and lines to the client)
            pb_utils.Logger.log_error(f"{self._name}: request {clip!r} failed: {error!r}")
            passage.fail(clip, "fault")
            return _failed(f"{self._name}: failed inside the server; see its log.", pb_utils.TritonError.INTERNAL)


def _prompts(request: Any) -> str:
    """What the caller says that it asked with, in the request's parameter `prompts`."""
    named = str(json.loads(request.parameters() or "{}").get("prompts", PROMPTS[0]))
    return named if named in PROMPTS else "other"


def _failed(message: str, code: Any) -> Any:
    return pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(message, code))
