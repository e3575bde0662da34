"""What a clip can be asked with, as one table. A mode without `build` is one that the service does not offer yet."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tritonclient.grpc as blocking

from loadtests.clips import Clip
from service.errors import BadInput
from service.wire import USUAL_OUTPUTS, request

Prepared = tuple[list[Any], list[Any]]


@dataclass(frozen=True)
class Mode:
    """One prompt setting. `prompts` is the label that the service's metrics carry, and the paper's word in its tables.

    `build` makes the inputs and the outputs asked for of a clip; they are sent again and again.
    """

    prompts: str
    build: Callable[[Clip], Prepared] | None = None
    model: str = "auralsam2"
    missing: str = "not offered by the service yet"

    @property
    def offered(self) -> bool:
        return self.build is not None


def _audio(clip: Clip) -> Prepared:
    return request(blocking, clip.frames, clip.audio, USUAL_OUTPUTS)


MODES = {
    mode.prompts: mode
    for mode in (
        Mode("audio", _audio),
        Mode("points"),
        Mode("box"),
        Mode("mask"),
        Mode("points+box"),
        Mode("audio+points+box"),
    )
}


def mode_named(prompts: str) -> Mode:
    """Raises: BadInput for a mode that is unknown or not offered."""
    if prompts not in MODES:
        raise BadInput(f"mode = {prompts!r}; must be one of {', '.join(MODES)}.")
    if not MODES[prompts].offered:
        offered = ", ".join(name for name, mode in MODES.items() if mode.offered)
        raise BadInput(f"mode {prompts!r} is {MODES[prompts].missing}; offered are {offered}.")
    return MODES[prompts]
