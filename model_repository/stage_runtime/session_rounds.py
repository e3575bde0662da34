"""One interactive session: features of a clip that stay, marks that accumulate over rounds as in SAM2's predictor."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from .combination import combine
from .engine import Array
from .prompt_tensors import CAP, ClipSize, Marks, mode_of, propagates, read_marks, rule_of, use_audio
from .prompted import MAX_POINTS, NO_OBJECT_LOGIT, FramePrompt, Kept
from .prompted_stage import NOTHING_TO_GO_BY, PROMPT_MODE, frame_prompt, mode_tensor
from .stage import BadRequest

# SAM2's predictor clamps the logits that it feeds back.
PREVIOUS_LIMIT = np.float32(32)
# Of the three answers that a session may hold (by sound, by prompts, the last one sent), and two maps a frame.
_ANSWERS = 3
NO_OBJECT_SCORE = -10.0


class SessionDecoder(Protocol):
    """Of `PromptedDecoder`, what a session calls."""

    def keep(self) -> Kept: ...

    def __call__(
        self, features: Mapping[str, Array], prompts: Sequence[FramePrompt], kept: Kept, /
    ) -> dict[str, Array]: ...

    def alone(self, features: Mapping[str, Array], prompt: FramePrompt, /) -> dict[str, Array]: ...


class Session:
    """The rounds of one clip. A round is a request; its answer covers all frames and all marks so far.

    As in SAM2's predictor, marking and tracking may be two steps: with PROPAGATE 0 the marked frame alone is decoded,
    and the others stay as they were, by sound where nothing was tracked yet, until a round propagates.
    """

    def __init__(
        self, features: Mapping[str, Array], heard: Mapping[str, Array] | None, decoder: SessionDecoder, clip: ClipSize
    ) -> None:
        """`features`: HIGH_RES_S4, HIGH_RES_S8, IMAGE_EMBEDDING; `heard`: the answer by sound, None without sound."""
        self._features = dict(features)
        self._heard = None if heard is None else dict(heard)
        self._decoder = decoder
        self._kept = decoder.keep()
        self._clip = clip
        self._prompts: dict[int, FramePrompt] = {}
        self._marks: dict[int, Marks] = {}
        self._prompted: dict[str, Array] | None = None
        # The frames that `_prompted` answers, and whether marks came since it was tracked.
        self._reached: frozenset[int] = frozenset()
        self._behind = False
        self._step = -1
        self._digest = b""
        self._answer: dict[str, Array] = {}

    @property
    def num_bytes(self) -> int:
        """What the session holds at most: the features and what is kept of them, its answers, and a mask and fed-back
        logits on every frame.
        """
        answer = self._heard or self._prompted or {}
        maps = 2 * answer["MASK_LOGITS"].nbytes if answer else 0
        return _bytes(self._features) + self._kept.max_bytes + _ANSWERS * _bytes(answer) + maps

    def round(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        """Answer one round. A round that is repeated with its STEP is answered as before, and counts once.

        Raises: BadRequest; the session is then as it was before.
        """
        step, digest = self._step_of(tensors), _digest(tensors)
        if step == self._step:
            if digest != self._digest:
                raise BadRequest(f"STEP {step} was answered already, for other prompts. The next one is {step + 1}.")
            return self._answer
        if step != self._step + 1:
            raise BadRequest(
                f"STEP is {step}, but this session is at {self._step}: the next one is {self._step + 1}. Leave STEP out"
                " to take it."
            )
        rule, sound, follow = rule_of(tensors), use_audio(tensors), propagates(tensors)
        if sound and self._heard is None:
            raise BadRequest(
                "This session was opened with USE_AUDIO false. Send it again, or open a session with sound."
            )
        marks = read_marks(tensors, self._clip)
        all_marks, prompts, prompted, reached = self._marks, self._prompts, self._prompted, self._reached
        if marks is not None:
            merged = _merged(all_marks.get(marks.frame), marks)
            all_marks, prompts = all_marks | {marks.frame: merged}, prompts | {marks.frame: self._prompt(merged)}
        behind = self._behind or marks is not None
        if follow and behind:
            prompted = self._decoder(self._features, [prompts[frame] for frame in sorted(prompts)], self._kept)
            reached, behind = frozenset(range(self._clip.num_frames)), False
        elif marks is not None:
            alone = self._decoder.alone(self._features, prompts[marks.frame])
            prompted, reached = self._with_frame(marks.frame, alone), reached | {marks.frame}
        if prompted is None and not sound:
            raise BadRequest(NOTHING_TO_GO_BY)
        answer = self._combined(prompted, reached, sound, rule)
        kinds = set().union(*(each.kinds for each in all_marks.values()))
        answer[PROMPT_MODE] = mode_tensor(mode_of(sound, kinds))
        # Only now, when nothing can fail any more.
        self._marks, self._prompts, self._prompted = all_marks, prompts, prompted
        self._reached, self._behind = reached, behind
        self._step, self._digest, self._answer = step, digest, answer
        return answer

    def _step_of(self, tensors: Mapping[str, Array]) -> int:
        return int(tensors["STEP"].reshape(-1)[0]) if "STEP" in tensors else self._step + 1

    def _prompt(self, marks: Marks) -> FramePrompt:
        # What SAM2 made of this frame last, marked or only tracked to, guides its next decoding; fixed then, so
        # that a round on another frame decodes this one as before.
        previous = None
        if self._prompted is not None and marks.frame in self._reached and marks.mask is None:
            previous = np.clip(self._prompted["MASK_LOGITS"][marks.frame], -PREVIOUS_LIMIT, PREVIOUS_LIMIT)
        return frame_prompt(marks, previous)

    def _with_frame(self, frame: int, alone: Mapping[str, Array]) -> dict[str, Array]:
        """What prompts made of all frames, `frame` anew. One that nothing reached yet shows no object."""
        if self._prompted is None:
            num_frames = self._clip.num_frames
            merged = {name: np.zeros((num_frames, *value.shape[1:]), np.float32) for name, value in alone.items()}
            for name in ("MASK_LOGITS", "CANDIDATE_LOGITS"):
                merged[name][:] = NO_OBJECT_LOGIT
            merged["OBJECT_SCORE"][:] = NO_OBJECT_SCORE
        else:
            merged = {name: value.copy() for name, value in self._prompted.items()}
        for name, value in alone.items():
            merged[name][frame] = value[0]
        return merged

    def _combined(
        self, prompted: dict[str, Array] | None, reached: frozenset[int], sound: bool, rule: str
    ) -> dict[str, Array]:
        if prompted is None or not sound:
            assert prompted is not None or self._heard is not None
            return dict(prompted if prompted is not None else self._heard or {})
        assert self._heard is not None
        answer = dict(combine(self._heard, prompted, rule))
        unreached = [frame for frame in range(self._clip.num_frames) if frame not in reached]
        for name in answer if unreached else ():
            answer[name] = np.array(answer[name])
            answer[name][unreached] = self._heard[name][unreached]
        return answer


def _merged(earlier: Marks | None, marks: Marks) -> Marks:
    """As SAM2's predictor: clicks are added; a box, or a mask, starts the frame anew, and so do clicks after a mask."""
    if earlier is None or earlier.mask is not None or marks.box is not None or marks.mask is not None:
        return marks
    merged = replace(
        earlier,
        points=np.concatenate([earlier.points, marks.points]),
        labels=np.concatenate([earlier.labels, marks.labels]),
    )
    if merged.num_entries > MAX_POINTS:
        raise BadRequest(
            f"Frame {marks.frame} has {earlier.num_entries} entries of earlier rounds, and {marks.num_entries} more"
            f" would make {merged.num_entries}; {CAP}. Open a new session, or send a box, which starts the frame anew."
        )
    return merged


def _bytes(arrays: Mapping[str, Array]) -> int:
    return sum(value.nbytes for value in arrays.values())


def _digest(tensors: Mapping[str, Array]) -> bytes:
    total = hashlib.sha256()
    for name in sorted(tensors):
        total.update(name.encode() + np.ascontiguousarray(tensors[name]).tobytes())
    return total.digest()
