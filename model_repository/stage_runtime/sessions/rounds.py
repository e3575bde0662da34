"""One interactive session: features of a clip that stay, marks that accumulate over rounds as in SAM2's predictor."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from auralsam2_client.contract import MAX_POINTS, PROMPT_MODE

from ..engine import Array
from ..engine.refusals import BadRequest
from ..prompts.answers import NO_OBJECT_LOGIT
from ..prompts.combination import LOGIT_LIMIT, combine
from ..prompts.memory import Kept
from ..prompts.reading import CAP, NOTHING_TO_GO_BY, Asked, ClipSize, Prompt, has_box, kinds, mode_of
from ..prompts.stages import mode_tensor

# Of the three answers that a session may hold (by sound, by prompts, the last one sent), and two maps a frame.
_ANSWERS = 3
NO_OBJECT_SCORE = -10.0


class SessionDecoder(Protocol):
    """Of `PromptedDecoder`, what a session calls."""

    def keep(self) -> Kept: ...

    def __call__(self, features: Mapping[str, Array], prompts: Sequence[Prompt], kept: Kept, /) -> dict[str, Array]: ...

    def alone(self, features: Mapping[str, Array], prompt: Prompt, /) -> dict[str, Array]: ...


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
        self._prompts: dict[int, Prompt] = {}
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

    def round(self, asked: Asked) -> dict[str, Array]:
        """Answer one round, as `read_round` has it.

        One that is repeated with its STEP is answered as before, and counts once.

        Raises: BadRequest; the session is then as it was before.
        """
        step = self._step + 1 if asked.step is None else asked.step
        if step == self._step:
            if asked.digest != self._digest:
                raise BadRequest(f"STEP {step} was answered already, for other prompts. The next one is {step + 1}.")
            return self._answer
        if step != self._step + 1:
            raise BadRequest(
                f"STEP is {step}, but this session is at {self._step}: the next one is {self._step + 1}. Leave STEP out"
                " to take it."
            )
        if asked.use_audio and self._heard is None:
            raise BadRequest(
                "This session was opened with USE_AUDIO false. Send it again, or open a session with sound."
            )
        marked, prompts, prompted, reached = asked.prompt, self._prompts, self._prompted, self._reached
        if marked is not None:
            prompts = prompts | {marked.frame: self._corrected(_merged(prompts.get(marked.frame), marked))}
        behind = self._behind or marked is not None
        if asked.propagate and behind:
            prompted = self._decoder(self._features, [prompts[frame] for frame in sorted(prompts)], self._kept)
            reached, behind = frozenset(range(self._clip.num_frames)), False
        elif marked is not None:
            alone = self._decoder.alone(self._features, prompts[marked.frame])
            prompted, reached = self._with_frame(marked.frame, alone), reached | {marked.frame}
        if prompted is None and not asked.use_audio:
            raise BadRequest(NOTHING_TO_GO_BY)
        answer = self._combined(prompted, reached, asked.use_audio, asked.rule)
        given = set().union(*(kinds(prompt) for prompt in prompts.values()))
        answer[PROMPT_MODE] = mode_tensor(mode_of(asked.use_audio, given))
        # Only now, when nothing can fail any more.
        self._prompts, self._prompted = prompts, prompted
        self._reached, self._behind = reached, behind
        self._step, self._digest, self._answer = step, asked.digest, answer
        return answer

    def _corrected(self, prompt: Prompt) -> Prompt:
        # What SAM2 made of this frame last, marked or only tracked to, guides its next decoding; fixed then, so
        # that a round on another frame decodes this one as before.
        previous = None
        if self._prompted is not None and prompt.frame in self._reached and prompt.mask is None:
            # Clamped as SAM2's predictor does.
            previous = np.clip(self._prompted["MASK_LOGITS"][prompt.frame], -LOGIT_LIMIT, LOGIT_LIMIT)
        return replace(prompt, previous=previous)

    def _with_frame(self, frame: int, alone: Mapping[str, Array]) -> dict[str, Array]:
        """Put a new answer for `frame` into those of all frames. One that nothing reached yet shows no object."""
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


def _merged(earlier: Prompt | None, prompt: Prompt) -> Prompt:
    """Merge as SAM2's predictor: clicks are added; a box or mask starts the frame again, as do clicks after a mask."""
    if earlier is None or earlier.mask is not None or prompt.mask is not None or has_box(prompt):
        return prompt
    num_earlier, num_more = len(earlier.labels), len(prompt.labels)
    if num_earlier + num_more > MAX_POINTS:
        raise BadRequest(
            f"Frame {prompt.frame} has {num_earlier} entries of earlier rounds, and {num_more} more would make"
            f" {num_earlier + num_more}; {CAP}. Open a new session, or send a box, which starts the frame again."
        )
    return replace(
        earlier,
        coords=np.concatenate([earlier.coords, prompt.coords]),
        labels=np.concatenate([earlier.labels, prompt.labels]),
    )


def _bytes(arrays: Mapping[str, Array]) -> int:
    return sum(value.nbytes for value in arrays.values())
