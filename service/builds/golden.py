"""The golden clip of a build: what the served model must answer, to the tolerance that export measured."""

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auralsam2_client.calls.wire import Arrays
from auralsam2_client.contract import BY_SOUND, RESULTS, USUAL_RESULTS
from auralsam2_client.errors import ConfigError
from auralsam2_client.prompts import Prompts
from service.builds.golden_answer import REMEDY, GoldenAnswer
from service.builds.golden_request import GoldenRequest, GoldenRound

REQUESTS = "REQUESTS"


@dataclass(frozen=True, eq=False)
class Golden:
    """The golden clip of a build, and all that is asked on it."""

    frames: NDArray[np.uint8]  # [T, S, S, 3]
    audio: NDArray[np.float32]  # [T, 15600, 2]
    requests: tuple[GoldenRequest, ...]
    """By sound first; then, of builds that know them, every mode of prompts, a session, and a sentence."""

    @classmethod
    def load(cls, build: Path) -> "Golden":
        """Read `golden.npz`. Raises: ConfigError when it is absent, damaged, or not finite."""
        path = build / "golden.npz"
        try:
            with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                golden = cls(file["FRAMES"], file["AUDIO"], _read_requests(file))
        except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise ConfigError(f"{path} cannot be read: {error}. Export the build again: auralsam2 export.") from error
        for request in golden.requests:
            for asked in request.rounds:
                found = asked.answer.not_finite()
                if found is not None:
                    raise ConfigError(f"{path}: {found} is not finite and positive. {REMEDY}")
        return golden

    @property
    def by_sound(self) -> GoldenRequest:
        """The request that every build has."""
        return self.requests[0]

    @property
    def reference(self) -> Arrays:
        """What the network itself answers by sound. All four outputs: an empty mask says nothing about its logits."""
        return self.by_sound.rounds[0].answer.reference

    def check(self, reply: Arrays) -> float:
        """Compare a reply by sound with the reference; return the largest difference in tolerances.

        Raises: WrongAnswer naming dtype, shape, or the worst element when the reply is not the network's.
        """
        return self.by_sound.check([reply])


def _read_requests(file: Mapping[str, Any]) -> tuple[GoldenRequest, ...]:
    frames, audio = file["FRAMES"], file["AUDIO"]
    by_sound = GoldenRound(_read_answer(file, BY_SOUND, RESULTS), BY_SOUND)
    found = [GoldenRequest(BY_SOUND, frames, audio, (by_sound,))]
    for record in json.loads(str(file[REQUESTS])) if REQUESTS in file else ():
        path = record["path"]
        rounds = tuple(
            GoldenRound(
                _read_answer(file, asked["answer"], USUAL_RESULTS),
                asked["mode"],
                _read_prompts(asked, file[f"{path}/MASK"] if asked["mask"] else None),
                asked["propagate"],
                asked.get("text", ""),
            )
            for asked in record["rounds"]
        )
        found.append(GoldenRequest(path, frames, audio, rounds, record["use_audio"], record["session"]))
    return tuple(found)


def _read_answer(file: Mapping[str, Any], name: str, outputs: Sequence[str]) -> GoldenAnswer:
    prefix = "" if name == BY_SOUND else f"{name}/"
    tolerance = {output: float(file[f"{prefix}TOLERANCE_{output}"]) for output in outputs}
    return GoldenAnswer({output: file[prefix + output] for output in outputs}, tolerance)


def _read_prompts(asked: Mapping[str, Any], mask: NDArray[Any] | None) -> Prompts | None:
    if not asked["points"] and asked["box"] is None and mask is None:
        return None
    box = None if asked["box"] is None else tuple(asked["box"])
    return Prompts([tuple(point) for point in asked["points"]], box, mask, asked["frame"])
