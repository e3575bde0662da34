"""What a session without sound gets: features alone, and those are there when the answer is put together."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import Tensor

from auralsam2_client.contract import IMAGE_FEATURES, RESULTS
from model_repository.stage_runtime.prompts.decoder import PromptedDecoder
from model_repository.stage_runtime.prompts.reading import Asked
from model_repository.stage_runtime.pytorch.answering import ClipAnswers
from model_repository.stage_runtime.pytorch.device.flight import Flight, Slot
from model_repository.stage_runtime.pytorch.whole_clip import ClipGraphs


class FlightLog:
    """A device on which copies are only begun: what was put into its lane, in order, and what was waited for."""

    def __init__(self) -> None:
        self.outputs = {name: torch.ones(1, dtype=torch.float16) for name in IMAGE_FEATURES}
        self.events = list[str]()

    def replay(self, graph: Any, slot: Slot) -> dict[str, Tensor]:
        return self.outputs

    @contextmanager
    def computing(self) -> Iterator[None]:
        yield
        self.events.append("features are copied")

    def download(self, slot: Slot, outputs: Mapping[str, Tensor], names: Sequence[str]) -> None:
        self.events.append(f"mark after {len(names)} results")

    def collect(self, slot: Slot, names: Sequence[str]) -> dict[str, Any]:
        self.events.append("wait for the mark")
        return {}


def test_features_of_a_session_without_sound_are_waited_for() -> None:
    flight = FlightLog()
    graphs = SimpleNamespace(by_sight=None, by_sound=SimpleNamespace(output_shapes=dict.fromkeys(RESULTS, (1,))))
    answers = ClipAnswers(cast(ClipGraphs, graphs), cast(PromptedDecoder, None), cast(Flight, flight))
    slot = cast(Slot, None)
    answer, coming = answers.compute(slot, Asked(None, False, "mean"), features=True)
    whole = answers.collect(slot, answer, coming)
    assert flight.events == ["features are copied", "mark after 0 results", "wait for the mark"]
    for name in IMAGE_FEATURES:
        assert whole[name].dtype == torch.float32
        assert whole[name].data_ptr() != flight.outputs[name].data_ptr()
