"""Callers that ask all the time, with numbered requests whose right answers are known: what each call ended as."""

import hashlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import TracebackType

from auralsam2_client.calls.client import Client
from auralsam2_client.calls.segmentation import Segmentation
from auralsam2_client.errors import AuralServeError
from auralsam2_client.prompts import Prompts
from loadtests.generator.clips import Clip

OK, WRONG = "OK", "WRONG"
CALL_TIMEOUT_S = 20.0
# After a refusal, as a caller would wait.
PAUSE_S = 0.05


@dataclass(frozen=True)
class Outcome:
    """How a request ended: OK, WRONG, or an error's type and code. Times are of `time.monotonic`."""

    number: int
    sent_s: float
    ended_s: float
    code: str


def by_sound(client: Client, clip: Clip) -> Iterable[Segmentation]:
    """Ask for a clip by its sound."""
    return [client.segment(clip.frames, clip.audio, timeout_s=CALL_TIMEOUT_S)]


def by_marks(client: Client, clip: Clip) -> Iterable[Segmentation]:
    """Ask for a clip by its sound and a click in its middle."""
    marks = _click(clip, 0)
    return [client.segment(clip.frames, clip.audio, prompts=marks, timeout_s=CALL_TIMEOUT_S)]


def in_session(client: Client, clip: Clip) -> Iterable[Segmentation]:
    """Open a session, mark two frames in turn, and end it."""
    with client.session(clip.frames, clip.audio) as session:
        for frame in (0, 1):
            yield session.segment(_click(clip, frame), timeout_s=CALL_TIMEOUT_S)


WAYS: tuple[Callable[[Client, Clip], Iterable[Segmentation]], ...] = (by_sound, by_sound, by_marks, in_session)


def digest(client: Client, clip: Clip, way: Callable[[Client, Clip], Iterable[Segmentation]] = by_sound) -> str:
    """Ask for a clip, and name the bytes of its answers."""
    whole = hashlib.sha256()
    for answer in way(client, clip):
        for part in (answer.mask_logits, answer.iou, answer.object_score):
            whole.update(part.tobytes())
    return whole.hexdigest()


def _click(clip: Clip, frame: int) -> Prompts:
    height, width = clip.frames.shape[1:3]
    return Prompts([(width // 2, height // 2, 1)], frame=frame)


class Load:
    """`num_callers` threads, each with a connection of its own; a context manager. `take` gives what ended since."""

    def __init__(self, url: str, clips: Sequence[Clip], num_callers: int) -> None:
        self._url, self._clips = url, clips
        with Client(url) as client:
            self._right = [[digest(client, clip, way) for way in WAYS] for clip in clips]
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._sent: Counter[int] = Counter()
        self._outcomes: list[Outcome] = []
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(num_callers)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(2 * CALL_TIMEOUT_S)

    def take(self) -> list[Outcome]:
        """Return the calls that ended since the last time, in that order."""
        with self._lock:
            found, self._outcomes = self._outcomes, []
        return found

    def wait_for_answer(self, within_s: float = 2 * CALL_TIMEOUT_S) -> None:
        """Wait until the last call that ended was answered, so that a silence is counted to its end."""
        until = time.monotonic() + within_s
        while time.monotonic() < until:
            with self._lock:
                if self._outcomes and self._outcomes[-1].code == OK:
                    return
            time.sleep(PAUSE_S)

    def lost(self) -> list[int]:
        """Name the requests that did not end, or not once; right once the block is left."""
        return [number for number, left in self._sent.items() if left]

    def _ask(self) -> None:
        with Client(self._url) as client:
            while not self._stopping.is_set():
                with self._lock:
                    number = len(self._sent)
                    self._sent[number] = 1
                sent_s, which = time.monotonic(), number % len(self._clips)
                way = number // len(self._clips) % len(WAYS)
                try:
                    same = digest(client, self._clips[which], WAYS[way]) == self._right[which][way]
                    code = OK if same else WRONG
                except AuralServeError as error:
                    code = f"{type(error).__name__}{'' if error.code is None else f' {error.code}'}"
                with self._lock:
                    self._sent[number] -= 1
                    self._outcomes.append(Outcome(number, sent_s, time.monotonic(), code))
                if code != OK:
                    time.sleep(PAUSE_S)


def longest_silence_s(outcomes: Sequence[Outcome], since_s: float) -> float:
    """Measure the longest time between two right answers in turn, from `since_s` on, in seconds; 0 without any."""
    ends = [since_s, *(outcome.ended_s for outcome in outcomes if outcome.code == OK)]
    return max((after - before for before, after in pairwise(ends)), default=0.0)
