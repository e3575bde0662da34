"""What one stage of the chain does with a clip, on a device: check what a caller sent, compute, hand on."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from auralsam2_client.contract import RESULTS

from ..engine import EngineError, first_non_finite
from ..engine.refusals import BadRequest
from ..engine.stage import TensorShape, check_tensor
from .device.captured import Captured
from .device.failures import Card
from .device.lanes import Mark


class CardStage:
    """One stage of a build in the layout "ensemble". Inputs that it does not take are handed on under their names."""

    def __init__(
        self, graph: Captured, inputs: Sequence[TensorShape], outputs: Sequence[TensorShape], card: Card
    ) -> None:
        """Raises EngineError when the configuration and the stage disagree about a name or a shape."""
        self._graph, self._inputs, self._card = graph, inputs, card
        self._handed_on = {tensor.name for tensor in inputs} & {tensor.name for tensor in outputs}
        configured = {tensor.name: tensor.shape for tensor in (*inputs, *outputs)}
        for name, shape in (*graph.input_shapes.items(), *graph.output_shapes.items()):
            if configured.get(name) != shape:
                raise EngineError(f"{name} is {list(shape)} in the network, {configured.get(name)} in config.pbtxt.")
        self._done = Mark(card.device)

    def __call__(self, inputs: Mapping[str, Any], /) -> dict[str, Any]:
        """Answer one clip: results of the last stage as numpy arrays, what other stages read as tensors of the device.

        Raises: BadRequest for another shape or type than configured, or NaN or Inf from a caller; CardFailed.
        """
        for wanted in self._inputs:
            check_given(wanted, inputs[wanted.name])
        try:
            found = self._graph(inputs)
            # Copied, for the next clip is computed into the same tensors.
            answer = {name: _own(name, value) for name, value in found.items()}
            self._done.note()
            self._done.wait()
        except Exception as error:
            failed = self._card.explain(error)
            if failed is None:
                raise
            raise failed from error
        return answer | {name: inputs[name] for name in self._handed_on}


def check_given(wanted: TensorShape, found: Any) -> None:
    """Compare a tensor with the configuration. Raises: BadRequest, of an array for NaN or Inf too.

    Of what lies on a card, shape and type alone: to look at its values, this thread would wait.
    """
    if not isinstance(found, Tensor):
        check_tensor(wanted, found)
    elif tuple(found.shape) != wanted.shape or found.dtype != torch.from_numpy(np.empty(0, wanted.dtype)).dtype:
        raise BadRequest(
            f"{wanted.name}: {found.dtype} {list(found.shape)}; must be {wanted.dtype} {list(wanted.shape)}."
        )


def _own(name: str, value: Tensor) -> Any:
    if name not in RESULTS:
        return value.clone()
    copied = value.to("cpu", copy=True).numpy()
    if (index := first_non_finite(copied)) is not None:
        raise EngineError(f"{name} is {copied[index]} at {list(index)}; the network overflowed.")
    return copied
