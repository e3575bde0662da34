"""What a CPU stage does with one request, without a server: check, run the graph (once, or frame by frame), answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from .engines import Array, Engine, EngineError, first_non_finite
from .refusals import BadRequest


@dataclass(frozen=True)
class TensorShape:
    """A tensor of the model's configuration."""

    name: str
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]


class ClipStage(Protocol):
    """Answers one clip from its tensors, by name. What it answers with is valid until the next call."""

    def __call__(self, inputs: Mapping[str, Any], /) -> dict[str, Any]: ...


class Stage:
    """One stage of the chain. Inputs that the graph does not take are handed on untouched, under their own names."""

    def __init__(
        self,
        engine: Engine,
        inputs: list[TensorShape],
        outputs: list[TensorShape],
        frames_per_call: int,
        own: Sequence[TensorShape] = (),
    ) -> None:
        """Raises EngineError when the configuration and the graph disagree about a name or a shape.

        `own`: what the graph takes from the model's code, and no caller sends.
        """
        self._engine = engine
        self._inputs = inputs
        self._handed_on = {t.name for t in inputs} & {t.name for t in outputs}
        self._frames_per_call = frames_per_call
        graph = [*engine.input_shapes.items(), *engine.output_shapes.items()]
        num_frames = inputs[0].shape[0]
        configured = {
            t.name: (frames_per_call, *t.shape[1:]) if t.shape[0] == num_frames else t.shape
            for t in (*inputs, *outputs, *own)
        }
        if num_frames % frames_per_call:
            raise EngineError(
                f"frames_per_call {frames_per_call} does not divide the clip's {num_frames} frames; the last"
                " call would be short."
            )
        for name, shape in graph:
            if configured.get(name) != shape:
                raise EngineError(f"{name} is {list(shape)} in the graph, {configured.get(name)} in config.pbtxt.")
        self._results = {t.name: np.empty(t.shape, t.dtype) for t in outputs if t.name in engine.output_shapes}
        if missing := {t.name for t in outputs} - self._handed_on - set(self._results):
            raise EngineError(f"config.pbtxt has outputs that the graph does not give: {sorted(missing)}.")
        for name in self._handed_on:
            taken, given = (next(t for t in tensors if t.name == name) for tensors in (inputs, outputs))
            if taken != given:
                raise EngineError(f"{name} is handed on, but config.pbtxt takes {taken} and gives {given}.")

    def __call__(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Answer one clip. The arrays are valid until the next call.

        Raises: BadRequest for NaN or Inf in a float input, or another shape or type than configured.
        """
        for wanted in self._inputs:
            check_tensor(wanted, inputs[wanted.name])
        handed_on = {name: inputs[name] for name in self._handed_on}
        graph_inputs = {name: inputs[name] for name in self._engine.input_shapes}
        num_frames = self._inputs[0].shape[0]
        if self._frames_per_call == num_frames:
            return self._engine(graph_inputs) | handed_on
        for start in range(0, num_frames, self._frames_per_call):
            part = slice(start, start + self._frames_per_call)
            answer = self._engine({name: value[part] for name, value in graph_inputs.items()})
            for name, value in answer.items():
                self._results[name][part] = value
        return self._results | handed_on


def check_tensor(wanted: TensorShape, found: Array) -> None:
    """Compare a caller's tensor with the configuration. Raises: BadRequest, also for NaN or Inf."""
    if found.shape != wanted.shape or found.dtype != wanted.dtype:
        raise BadRequest(
            f"{wanted.name}: {found.dtype} {list(found.shape)}; must be {wanted.dtype} {list(wanted.shape)}."
        )
    if found.dtype.kind == "f":
        index = first_non_finite(found)
        if index is not None:
            raise BadRequest(
                f"{wanted.name}: {found[index]} at {list(index)}; every value must be finite. Mend the source, or put 0"
                " for samples that are missing."
            )
