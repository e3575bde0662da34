"""From a clip on the device to its answer: by sound, by prompts, or both; and the features for a session."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from auralsam2_client.contract import BY_SOUND, IMAGE_FEATURES, PROMPT_MODE, RESULTS

from ..engine import Array, EngineError, first_non_finite
from ..engine.refusals import BadRequest
from ..prompts.combination import combine
from ..prompts.decoder import PromptedDecoder
from ..prompts.reading import NOTHING_TO_GO_BY, Asked, kinds, mode_of
from ..prompts.stages import mode_tensor
from .device.flight import Flight, Slot
from .whole_clip import ClipGraphs


class ClipAnswers:
    """One clip at a time: `compute` in one thread, `collect` in another, in the same order."""

    def __init__(self, graphs: ClipGraphs, decoder: PromptedDecoder, flight: Flight) -> None:
        self._graphs, self._decoder, self._flight = graphs, decoder, flight
        self._results = {name: graphs.by_sound.output_shapes[name] for name in RESULTS}

    def check(self, asked: Asked, features: bool) -> None:
        """Refuse what nothing can be answered to, before it costs anything. Raises: BadRequest."""
        if asked.prompt is None and not asked.use_audio and not features:
            raise BadRequest(NOTHING_TO_GO_BY)

    def compute(self, slot: Slot, asked: Asked, features: bool) -> tuple[dict[str, Any], Sequence[str]]:
        """Compute what was asked; return what is known of the answer, and the results that are still on their way.

        Args:
            features: whether IMAGE_FEATURES are part of the answer, as tensors of the device.
        Raises: what the device failed with.
        """
        flight, graphs = self._flight, self._graphs
        outputs = flight.replay(graphs.by_sound if asked.use_audio else graphs.by_sight, slot)
        answer: dict[str, Any] = {}
        with flight.computing(), torch.no_grad():
            seen = {name: outputs[name] for name in IMAGE_FEATURES}
            if features:
                answer |= {name: value.to(torch.float32, copy=True) for name, value in seen.items()}
            if asked.prompt is not None:
                heard = {name: _to_host(outputs[name]) for name in RESULTS} if asked.use_audio else None
                prompted = self._decoder(seen, [asked.prompt])
                answer |= prompted if heard is None else combine(heard, prompted, asked.rule)
                answer[PROMPT_MODE] = mode_tensor(mode_of(asked.use_audio, kinds(asked.prompt)))
                return answer, ()
        answer[PROMPT_MODE] = mode_tensor(BY_SOUND)
        if not asked.use_audio:
            # Of a session without sound, which reads the features alone. Nothing comes back, but `collect` waits for
            # their copies.
            flight.download(slot, outputs, ())
            return answer | {name: np.zeros(shape, np.float32) for name, shape in self._results.items()}, ()
        flight.download(slot, outputs, RESULTS)
        return answer, RESULTS

    def stage_seconds(self, asked: Asked) -> Mapping[str, float]:
        """Tell what each stage took of the clip that was computed last; without sound they were not run in a row."""
        return self._graphs.stage_seconds() if asked.use_audio else {}

    def collect(self, slot: Slot, answer: Mapping[str, Any], coming: Sequence[str]) -> dict[str, Any]:
        """Wait for what is on its way, and put the answer together.

        Raises: EngineError when a result is not finite: half precision has a largest number.
        """
        whole = dict(answer) | self._flight.collect(slot, coming)
        for name in RESULTS:
            if name in whole and (index := first_non_finite(whole[name])) is not None:
                raise EngineError(f"{name} is {whole[name][index]} at {list(index)}; the network overflowed.")
        return whole


def _to_host(values: Tensor) -> Array:
    copied: Array = values.to("cpu", copy=True).numpy()
    return copied
