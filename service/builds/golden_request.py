"""A golden request: one path that callers' clips take, how it is asked, and what has to come back."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auralsam2_client.calls.client import Client
from auralsam2_client.calls.segmentation import Segmentation
from auralsam2_client.calls.wire import Arrays
from auralsam2_client.contract import PROMPT_MODE, RESULTS
from auralsam2_client.flow.deadline import time_left
from auralsam2_client.prompts import Prompts
from service.builds.golden_answer import REMEDY, GoldenAnswer, WrongAnswer


@dataclass(frozen=True, eq=False)
class GoldenRound:
    """One question and its right answer. `prompts`: None where nothing is marked."""

    answer: GoldenAnswer
    mode: str
    prompts: Prompts | None = None
    propagate: bool = True
    text: str = ""


@dataclass(frozen=True, eq=False)
class GoldenRequest:
    """One path: a clip by sound, by text, by prompts, by several of them, or a session of several rounds."""

    path: str
    """Its mode, as PROMPT_MODE has it, or "session"."""
    frames: NDArray[np.uint8]
    audio: NDArray[np.float32]
    rounds: tuple[GoldenRound, ...]
    use_audio: bool = True
    in_session: bool = False

    def ask(self, client: Client, timeout_s: float) -> tuple[Arrays, ...]:
        """Send it and return the reply to each round. A session that was opened is ended, whatever it met.

        Args:
            client: one that sends frames raw, for a file of them is another clip.
            timeout_s: for all rounds together.
        Raises: as `Client.infer`.
        """
        audio = self.audio if self.use_audio else None
        if self.in_session:
            deadline = time.monotonic() + timeout_s
            with client.session(self.frames, audio, use_audio=self.use_audio) as session:
                return tuple(
                    _arrays(
                        session.segment(
                            asked.prompts, propagate=asked.propagate, timeout_s=time_left(deadline, timeout_s)
                        )
                    )
                    for asked in self.rounds
                )
        (asked,) = self.rounds
        if asked.prompts is None and not asked.text:
            return (client.infer(self.frames, self.audio, outputs=RESULTS, timeout_s=timeout_s),)
        found = client.segment(
            self.frames,
            audio,
            prompts=asked.prompts,
            text=asked.text,
            use_audio=self.use_audio,
            timeout_s=timeout_s,
        )
        return (_arrays(found),)

    def check(self, replies: Sequence[Arrays]) -> float:
        """Compare the replies with the network's answers; return the largest difference in tolerances.

        Raises: WrongAnswer naming the path, the round of a session, and what differs.
        """
        worst = 0.0
        for number, (asked, reply) in enumerate(zip(self.rounds, replies, strict=True), 1):
            told = f"{self.path}, round {number}" if self.in_session else self.path
            mode = str(reply.get(PROMPT_MODE, asked.mode))
            if mode != asked.mode:
                raise WrongAnswer(
                    self.path, f"Golden clip by {told}: it was answered by {mode}, not by {asked.mode}. {REMEDY}"
                )
            worst = max(worst, asked.answer.check(reply, self.path, told))
        return worst


def digest(replies: Sequence[Arrays]) -> str:
    """Hash the bytes of replies with sha256, one after the other, each in the order of its outputs' names."""
    total = hashlib.sha256()
    for reply in replies:
        for name in sorted(reply):
            total.update(name.encode() + np.ascontiguousarray(reply[name]).tobytes())
    return total.hexdigest()


def _arrays(found: Segmentation) -> Arrays:
    return {
        "MASK_LOGITS": found.mask_logits,
        "IOU": found.iou,
        "OBJECT_SCORE": found.object_score,
        PROMPT_MODE: np.array(found.mode),
    }
