"""SAM2's own prompts on the features of one clip: the loop over frames, around small graphs of fixed shapes.

The rules are those of SAM2's video predictor (2.0 configurations): prompted frames first, without memory; then forward
from the first of them, then backward. `auralsam2/prompted_tracker.py` is the same in PyTorch, and the tests' truth.
"""

import json
import math
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from .engine import Array, Engine, EngineError, check_hash, first_non_finite, load_engine
from .given_mask import given_mask
from .stage import BadRequest

DECODE, WRITE, PREPARE, READ = "prompt_decode", "memory_write", "memory_prepare", "memory_read_{}"
INDEX, CONSTANTS, WEIGHTS = "prompted.json", "prompted.npz", "prompted.weights"
MAX_POINTS = 16
"""Box corners included."""
NUM_SLOTS = MAX_POINTS + 1
# Labels of a slot that holds no point: SAM2's own padding token, and a slot that nobody reads.
PADDING, ABSENT = -1, -2
# SAM2 answers up to one point with three candidates, more with one mask, if that one is stable.
MAX_POINTS_OF_THREE_MASKS = 1
STABILITY_DELTA, STABILITY_THRESHOLD = 0.05, 0.98
PREVIOUS_LIMIT = 32.0
NO_OBJECT_LOGIT = np.float32(-1024)
MEMORY_FRAMES, MAX_POINTERS = 6, 16


@dataclass(frozen=True)
class FramePrompt:
    """What a person says about one frame: points, a box, or both; or a mask, which points may then refine."""

    frame: int
    coords: Array
    """[16, 2] float32, pixels of the S x S frame, x then y. The two corners of a box come first."""
    labels: Array
    """[16] int32: -1 no point, 0 negative, 1 positive, 2 and 3 the top left and bottom right corner of a box."""
    mask: Array | None = None
    """[S/4, S/4] float32, above 0 inside."""
    previous: Array | None = None
    """[S/4, S/4] float32 logits of an earlier round on this frame, which the points correct."""

    @property
    def points(self) -> tuple[Array, Array]:
        """[P, 2] and [P]: without the slots that are not used."""
        used = self.labels != PADDING
        return self.coords[used], self.labels[used]


@dataclass(frozen=True)
class _Answer:
    candidates: Array  # [3, S/4, S/4]
    iou: Array  # [3]
    mask: Array  # [S/4, S/4]
    score: float
    pointer: Array  # [C]
    prompted: bool


class Kept:
    """What a later call on the same features need not compute again. Empty at first; filled as it is missed."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        """What it holds once it is full."""
        self.tokens = dict[int, Array]()
        """[N, C] by frame, before any memory is read."""
        self._memories = dict[int, tuple[_Answer, Array]]()

    def memory(self, frame: int, answer: _Answer, remember: Callable[[], Array]) -> Array:
        """[N, C_mem]: what `frame` leaves behind, computed by `remember` where its answer is not the last call's."""
        known = self._memories.get(frame)
        if known is None or known[0].prompted != answer.prompted or not np.array_equal(known[0].mask, answer.mask):
            known = self._memories[frame] = answer, remember()
        return known[1]


class PromptedDecoder:
    """Every call decodes the whole clip from its features. Calls are not re-entrant. `engines`: by graph."""

    def __init__(self, engines: Mapping[str, Engine], sizes: Sequence[int], constants: Mapping[str, Array]) -> None:
        self.engines, self._sizes, self._constants = engines, sorted(sizes), constants
        self._shapes = {name: shape[1:] for name, shape in engines[DECODE].input_shapes.items()}
        self._num_frames = 1
        if sizes:
            self._num_frames += engines[READ.format(sizes[0])].input_shapes["POINTERS"][1]

    @classmethod
    def load(cls, folder: Path, kind: str, precision: str, cache_dir: Path | None) -> "PromptedDecoder":
        """The decoder in `folder`, each file checked against its hash.

        Raises: EngineError when a file is missing or altered, or the engine refuses.
        """
        if not (folder / INDEX).is_file():
            raise EngineError(f"{INDEX}: no such file; this build takes no prompts. Write it again: auralsam2 export")
        index = json.loads((folder / INDEX).read_text())
        for name, sha256 in index["files"].items():
            check_hash(folder / name, sha256)
        names = [DECODE]
        if index["memory_sizes"]:
            names += [WRITE, PREPARE, *(READ.format(size) for size in index["memory_sizes"])]
        engines = {
            name: load_engine(kind, folder / f"{name}.onnx", precision=precision, cache_dir=cache_dir) for name in names
        }
        with np.load(folder / CONSTANTS, allow_pickle=False) as constants:
            return cls(engines, index["memory_sizes"], dict(constants))

    def keep(self) -> Kept:
        """A store for the calls on one clip's features."""
        if not self._sizes:
            return Kept(0)
        shapes = [self.engines[PREPARE].output_shapes["TOKENS"], self.engines[WRITE].output_shapes["MEMORY"]]
        shapes += [self.engines[DECODE].output_shapes["FOUR_LOGITS"]]
        return Kept(self._num_frames * sum(math.prod(shape) for shape in shapes) * np.float32().nbytes)

    def __call__(
        self, features: Mapping[str, Array], prompts: Sequence[FramePrompt], kept: Kept | None = None
    ) -> dict[str, Array]:
        """Segment what the prompts point at, in every frame of one clip.

        Args:
            features: HIGH_RES_S4, HIGH_RES_S8 and IMAGE_EMBEDDING of the clip, float32, leading axis T.
            prompts: one or more, each for a frame of its own.
            kept: of `keep`, for `features` and no others; None: nothing is known of them yet.
        Returns: CANDIDATE_LOGITS [T, 3, S/4, S/4], IOU [T, 3], OBJECT_SCORE [T], MASK_LOGITS [T, S/4, S/4], newly
            allocated. Where SAM2 gives one mask, it stands in all three candidates.
        Raises: BadRequest when a prompt says nothing or does not fit the clip.
        """
        self._check(prompts)
        answers = {prompt.frame: self._prompted(features, prompt) for prompt in prompts}
        kept = self.keep() if kept is None else kept
        conditioning = list(answers)
        start = min(conditioning)
        for reverse, order in ((False, range(start + 1, self._num_frames)), (True, range(start - 1, -1, -1))):
            for frame in order:
                if frame not in answers:
                    image = self._read(features, frame, answers, kept, conditioning, reverse)
                    answers[frame] = self._tracked(features, frame, image)
        return _stacked([answers[frame] for frame in range(self._num_frames)])

    def alone(self, features: Mapping[str, Array], prompt: FramePrompt) -> dict[str, Array]:
        """The prompted frame as `__call__` answers it, and no other: nothing is tracked. Outputs have a leading 1."""
        self._check([prompt])
        return _stacked([self._prompted(features, prompt)])

    def _check(self, prompts: Sequence[FramePrompt]) -> None:
        frames = [prompt.frame for prompt in prompts]
        last, side = self._num_frames - 1, self._shapes["MASK_PROMPT"]
        if not frames or len(set(frames)) < len(frames) or not all(0 <= frame <= last for frame in frames):
            raise BadRequest(f"prompts for the frames {frames}; one or more, each for another of 0 to {last}.")
        for prompt in prompts:
            where = f"the prompt of frame {prompt.frame}"
            if prompt.coords.shape != (MAX_POINTS, 2) or prompt.labels.shape != (MAX_POINTS,):
                raise BadRequest(
                    f"{where}: coords {list(prompt.coords.shape)} and labels {list(prompt.labels.shape)}; must be"
                    f" [{MAX_POINTS}, 2] and [{MAX_POINTS}], label -1 where there is no point."
                )
            for name, given in (("mask", prompt.mask), ("previous", prompt.previous)):
                if given is not None and (given.shape != side or first_non_finite(given) is not None):
                    raise BadRequest(f"{where}: {name} {list(given.shape)}; must be {list(side)}, every value finite.")
            _, labels = prompt.points
            if not np.isin(labels, (0, 1, 2, 3)).all() or first_non_finite(prompt.coords) is not None:
                raise BadRequest(f"{where}: labels {labels.tolist()}; must be 0 to 3, and every coordinate finite.")
            if not len(labels) and prompt.mask is None:
                raise BadRequest(f"{where} has neither points nor a mask; give one of them.")
            if prompt.previous is not None and prompt.mask is not None:
                raise BadRequest(f"{where} has a mask and previous logits; a mask stands for itself, leave one out.")

    def _prompted(self, features: Mapping[str, Array], prompt: FramePrompt) -> _Answer:
        """A mask stands for itself; points after it refine it, as they refine the logits of an earlier round."""
        coords, labels = prompt.points
        previous, answer = prompt.previous, None
        if prompt.mask is not None:
            answer = self._masked(features, prompt.frame, prompt.mask)
            previous = answer.mask
        if not len(labels):
            assert answer is not None, "a prompt that says nothing was refused"
            return answer
        if previous is not None:
            previous = np.clip(previous, -PREVIOUS_LIMIT, PREVIOUS_LIMIT)
        own = features["IMAGE_EMBEDDING"][prompt.frame] + self._constants["no_mem_embed"][:, None, None]
        return _choose(self._decode(features, prompt.frame, own, coords, labels, previous), len(labels), prompted=True)

    def _masked(self, features: Mapping[str, Array], frame: int, mask: Array) -> _Answer:
        given = given_mask(mask, self._constants["mask_weight"], self._constants["mask_bias"])
        # The pointer alone is decoded, and by the rule for one mask. No embedding says that there is no memory.
        found = self._decode(features, frame, features["IMAGE_EMBEDDING"][frame], None, None, given.dense)
        pointer = self._constants["no_obj_ptr"] if given.empty else found["FOUR_POINTERS"][0]
        candidates = np.broadcast_to(given.logits, (3, *given.logits.shape))
        score = -10.0 if given.empty else 10.0
        return _Answer(candidates, np.ones(3, np.float32), given.logits, score, pointer, prompted=True)

    def _tracked(self, features: Mapping[str, Array], frame: int, image: Array) -> _Answer:
        return _choose(self._decode(features, frame, image, None, None, None), 0, prompted=False)

    def _decode(
        self,
        features: Mapping[str, Array],
        frame: int,
        image: Array,
        coords: Array | None,
        labels: Array | None,
        mask: Array | None,
    ) -> dict[str, Array]:
        """The decoder's four masks of `image` [C, S/16, S/16], what of the frame is decoded; without a leading axis."""
        slots, names = np.zeros((1, NUM_SLOTS, 2), np.float32), np.full((1, NUM_SLOTS), ABSENT, np.float32)
        num_points = 0
        if coords is not None and labels is not None:
            num_points = len(labels)
            slots[0, :num_points], names[0, :num_points] = coords, labels
        # One padding point after the points, two where there are none.
        names[0, num_points : num_points + (1 if num_points else 2)] = PADDING
        side = self._shapes["MASK_PROMPT"]
        found = self.engines[DECODE](
            {
                "IMAGE": image[None],
                "HIGH_RES_S4": features["HIGH_RES_S4"][frame : frame + 1],
                "HIGH_RES_S8": features["HIGH_RES_S8"][frame : frame + 1],
                "POINT_COORDS": slots,
                "POINT_LABELS": names,
                "MASK_PROMPT": np.zeros((1, *side), np.float32) if mask is None else np.ascontiguousarray(mask)[None],
                "MASK_GIVEN": np.full(1, mask is not None, np.float32),
            }
        )
        return {name: value[0].copy() for name, value in found.items()}

    def _remember(self, features: Mapping[str, Array], frame: int, answer: _Answer) -> Array:
        """[N, C_mem]: what a later frame reads. SAM2 keeps it in bfloat16."""
        found = self.engines[WRITE](
            {
                "IMAGE_EMBEDDING": features["IMAGE_EMBEDDING"][frame : frame + 1],
                "MASK_LOGITS": np.ascontiguousarray(answer.mask)[None],
                "PROMPTED": np.full(1, answer.prompted, np.float32),
            }
        )
        return _as_bfloat16(found["MEMORY"][0])

    def _read(
        self,
        features: Mapping[str, Array],
        frame: int,
        answers: Mapping[int, _Answer],
        kept: Kept,
        conditioning: Sequence[int],
        reverse: bool,
    ) -> Array:
        """The frame's image tokens after it read what was decoded before it, [C, S/16, S/16].

        A frame that nobody reads runs no memory encoder.
        """
        reached, pointed = reach(answers, frame, conditioning, reverse)
        size = next(size for size in self._sizes if size >= len(reached))
        engine = self.engines[READ.format(size)]
        inputs = {name: np.zeros(shape, np.float32) for name, shape in engine.input_shapes.items()}
        if frame not in kept.tokens:
            own = {"IMAGE_EMBEDDING": features["IMAGE_EMBEDDING"][frame : frame + 1]}
            kept.tokens[frame] = self.engines[PREPARE](own)["TOKENS"][0].copy()
        inputs["TOKENS"] = kept.tokens[frame][None]
        for place, (index, temporal) in enumerate(reached):
            answer = answers[index]
            inputs["MEMORY"][0, place] = kept.memory(index, answer, partial(self._remember, features, index, answer))
            inputs["TEMPORAL"][0, place] = self._constants["temporal"][temporal]
        inputs["REMEMBERED"][0, : len(reached)] = 1
        for place, index in enumerate(pointed):
            inputs["POINTERS"][0, place] = answers[index].pointer
        inputs["POINTED"][0, : len(pointed)] = 1
        image: Array = engine(inputs)["IMAGE"][0].copy()
        return image


def _stacked(answers: Sequence[_Answer]) -> dict[str, Array]:
    return {
        "CANDIDATE_LOGITS": np.stack([answer.candidates for answer in answers]),
        "IOU": np.stack([answer.iou for answer in answers]),
        "OBJECT_SCORE": np.asarray([answer.score for answer in answers], np.float32),
        "MASK_LOGITS": np.stack([answer.mask for answer in answers]),
    }


def reach(
    decoded: Container[int], frame: int, conditioning: Sequence[int], reverse: bool
) -> tuple[list[tuple[int, int]], list[int]]:
    """What `frame` reads: the prompted frames and up to six before it, each with its row of the temporal encoding; then
    the frames whose pointers are read, which lie in the past only. Backwards, "before" is later in time.
    """
    step = 1 if reverse else -1

    def remembered(distance: int) -> bool:
        return frame + step * distance in decoded and frame + step * distance not in conditioning

    frames = [(index, MEMORY_FRAMES) for index in conditioning]
    frames += [(frame + step * d, d - 1) for d in range(MEMORY_FRAMES, 0, -1) if remembered(d)]
    pointers = [index for index in conditioning if step * (index - frame) >= 0]
    pointers += [frame + step * d for d in range(1, MAX_POINTERS) if remembered(d)]
    return frames, pointers


def _choose(found: Mapping[str, Array], num_points: int, prompted: bool) -> _Answer:
    """SAM2's choice among the decoder's four masks."""
    logits, iou, pointers = found["FOUR_LOGITS"], found["FOUR_IOU"], found["FOUR_POINTERS"]
    best = 1 + int(np.argmax(iou[1:]))
    chosen, candidates, pointer = best, slice(1, 4), pointers[best]
    if num_points > MAX_POINTS_OF_THREE_MASKS:
        # The pointer is that of mask 0 even where another stands in for it.
        chosen, pointer = (0 if _stability(logits[0]) >= STABILITY_THRESHOLD else best), pointers[0]
    score = float(found["OBJECT_SCORE"])
    if score <= 0:
        logits = np.full_like(logits, NO_OBJECT_LOGIT)
    mask = logits[chosen]
    if num_points <= MAX_POINTS_OF_THREE_MASKS:
        return _Answer(logits[candidates], iou[candidates], mask, score, pointer, prompted)
    return _Answer(np.broadcast_to(mask, (3, *mask.shape)), np.repeat(iou[chosen], 3), mask, score, pointer, prompted)


def _stability(logits: Array) -> float:
    """How little a mask changes when its threshold moves, in [0, 1]; 1 for an empty one."""
    outer = np.count_nonzero(logits > -STABILITY_DELTA)
    return np.count_nonzero(logits > STABILITY_DELTA) / outer if outer else 1.0


def _as_bfloat16(values: Array) -> Array:
    """Rounded to the nearest bfloat16, ties to even; float32 still."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return (rounded & np.uint32(0xFFFF0000)).view(np.float32)
