"""SAM2's own prompts on the features of one clip: the loop over frames, around small graphs of fixed shapes.

The rules are those of SAM2's video predictor (2.0 configurations): prompted frames first, without memory; then forward
from the first of them, then backward. The tests hold it to `auralsam2/prompted/prompted_tracker.py`, which is PyTorch.
"""

import json
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from auralsam2_client.contract import DECODE, MAX_POINTS, PREPARE, READ, WRITE

from ..engine import Array, Engine, EngineError, check_hash, load_engine
from .answers import Answer, choose, stack_answers
from .arrays import Arrays, HostArrays
from .combination import LOGIT_LIMIT
from .given_mask import given_mask
from .memory import Kept, reach
from .reading import Prompt

INDEX, CONSTANTS, WEIGHTS = "prompted.json", "prompted.npz", "prompted.weights"
NUM_SLOTS = MAX_POINTS + 1
# Labels of a slot that holds no point: SAM2's own padding token, and a slot that nobody reads.
PADDING, ABSENT = -1, -2


class PromptedDecoder:
    """Every call decodes the whole clip from its features. Calls are not re-entrant."""

    def __init__(
        self,
        engines: Mapping[str, Engine],
        sizes: Sequence[int],
        constants: Mapping[str, Array],
        arrays: Arrays | None = None,
    ) -> None:
        """Build the loop around `engines`, by graph; `arrays`: of the memory in which they compute, numpy's if None."""
        self.engines, self._sizes, self._constants = engines, sorted(sizes), constants
        self._arrays: Arrays = HostArrays() if arrays is None else arrays
        self._no_memory = self._arrays.put(constants["no_mem_embed"][:, None, None])
        self._shapes = {name: shape[1:] for name, shape in engines[DECODE].input_shapes.items()}
        self._num_frames = 1
        if sizes:
            self._num_frames += engines[READ.format(sizes[0])].input_shapes["POINTERS"][1]

    @classmethod
    def load(cls, folder: Path, kind: str, precision: str, cache_dir: Path | None) -> "PromptedDecoder":
        """Load the decoder in `folder`, each file checked against its hash.

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
        """Make a store for the calls on one clip's features."""
        if not self._sizes:
            return Kept(0)
        shapes = [self.engines[PREPARE].output_shapes["TOKENS"], self.engines[WRITE].output_shapes["MEMORY"]]
        shapes += [self.engines[DECODE].output_shapes["FOUR_LOGITS"]]
        return Kept(self._num_frames * sum(math.prod(shape) for shape in shapes) * np.float32().nbytes)

    def __call__(
        self, features: Mapping[str, Any], prompts: Sequence[Prompt], kept: Kept | None = None
    ) -> dict[str, Array]:
        """Segment what the prompts point at, in every frame of one clip.

        Args:
            features: HIGH_RES_S4, HIGH_RES_S8 and IMAGE_EMBEDDING of the clip, float32, leading axis T; what is not
                in the memory of the engines is brought there.
            prompts: one or more as `read_prompts` lets them pass, each for a frame of its own. Beside a mask points
                may stand, which refine it.
            kept: of `keep`, for `features` and no others; None: nothing is known of them yet.
        Returns: CANDIDATE_LOGITS [T, 3, S/4, S/4], IOU [T, 3], OBJECT_SCORE [T], MASK_LOGITS [T, S/4, S/4], newly
            allocated. Where SAM2 gives one mask, it stands in all three candidates.
        """
        assert prompts, "without prompts there is nothing to decode"
        assert len({prompt.frame for prompt in prompts}) == len(prompts), "one prompt a frame"
        features = self._held(features)
        answers = {prompt.frame: self._prompted(features, prompt) for prompt in prompts}
        kept = self.keep() if kept is None else kept
        conditioning = list(answers)
        start = min(conditioning)
        for reverse, order in ((False, range(start + 1, self._num_frames)), (True, range(start - 1, -1, -1))):
            for frame in order:
                if frame not in answers:
                    image = self._read(features, frame, answers, kept, conditioning, reverse)
                    answers[frame] = self._tracked(features, frame, image)
        return stack_answers([answers[frame] for frame in range(self._num_frames)])

    def alone(self, features: Mapping[str, Any], prompt: Prompt) -> dict[str, Array]:
        """Decode the prompted frame as `__call__` does, and no other: nothing is tracked. Outputs have a leading 1."""
        return stack_answers([self._prompted(self._held(features), prompt)])

    def _held(self, features: Mapping[str, Any]) -> dict[str, Any]:
        return {name: self._arrays.put(value) for name, value in features.items()}

    def _prompted(self, features: Mapping[str, Any], prompt: Prompt) -> Answer:
        """A mask stands for itself; points after it refine it, as they refine the logits of an earlier round."""
        coords, labels = prompt.coords, prompt.labels
        previous, answer = prompt.previous, None
        if prompt.mask is not None:
            answer = self._masked(features, prompt.frame, prompt.mask)
            previous = answer.mask
        if not len(labels):
            assert answer is not None, "a prompt says something"
            return answer
        if previous is not None:
            previous = np.clip(previous, -LOGIT_LIMIT, LOGIT_LIMIT)
        own = features["IMAGE_EMBEDDING"][prompt.frame] + self._no_memory
        return choose(self._decode(features, prompt.frame, own, coords, labels, previous), len(labels), prompted=True)

    def _masked(self, features: Mapping[str, Any], frame: int, mask: Array) -> Answer:
        given = given_mask(mask, self._constants["mask_weight"], self._constants["mask_bias"])
        # The pointer alone is decoded, and by the rule for one mask. No embedding says that there is no memory.
        found = self._decode(features, frame, features["IMAGE_EMBEDDING"][frame], None, None, given.dense)
        pointer = self._constants["no_obj_ptr"] if given.empty else found["FOUR_POINTERS"][0]
        candidates = np.broadcast_to(given.logits, (3, *given.logits.shape))
        score = -10.0 if given.empty else 10.0
        return Answer(candidates, np.ones(3, np.float32), given.logits, score, pointer, prompted=True)

    def _tracked(self, features: Mapping[str, Any], frame: int, image: Any) -> Answer:
        return choose(self._decode(features, frame, image, None, None, None), 0, prompted=False)

    def _decode(
        self,
        features: Mapping[str, Any],
        frame: int,
        image: Any,
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
        return {name: self._arrays.to_host(value[0]) for name, value in found.items()}

    def _remember(self, features: Mapping[str, Any], frame: int, answer: Answer) -> Any:
        """[N, C_mem]: what a later frame reads. SAM2 keeps it in bfloat16."""
        found = self.engines[WRITE](
            {
                "IMAGE_EMBEDDING": features["IMAGE_EMBEDDING"][frame : frame + 1],
                "MASK_LOGITS": np.ascontiguousarray(answer.mask)[None],
                "PROMPTED": np.full(1, answer.prompted, np.float32),
            }
        )
        return self._arrays.as_bfloat16(found["MEMORY"][0])

    def _read(
        self,
        features: Mapping[str, Any],
        frame: int,
        answers: Mapping[int, Answer],
        kept: Kept,
        conditioning: Sequence[int],
        reverse: bool,
    ) -> Any:
        """The frame's image tokens after it read what was decoded before it, [C, S/16, S/16].

        A frame that nobody reads runs no memory encoder.
        """
        reached, pointed = reach(answers, frame, conditioning, reverse)
        size = next(size for size in self._sizes if size >= len(reached))
        engine = self.engines[READ.format(size)]
        shapes = dict(engine.input_shapes)
        inputs: dict[str, Any] = {"MEMORY": self._arrays.zeros(shapes.pop("MEMORY"))}
        inputs |= {name: np.zeros(shape, np.float32) for name, shape in shapes.items() if name != "TOKENS"}
        if frame not in kept.tokens:
            own = {"IMAGE_EMBEDDING": features["IMAGE_EMBEDDING"][frame : frame + 1]}
            kept.tokens[frame] = self._arrays.own(self.engines[PREPARE](own)["TOKENS"][0])
        inputs["TOKENS"] = kept.tokens[frame][None]
        for place, (index, temporal) in enumerate(reached):
            answer = answers[index]
            inputs["MEMORY"][0, place] = kept.memory(index, answer, partial(self._remember, features, index, answer))
            inputs["TEMPORAL"][0, place] = self._constants["temporal"][temporal]
        inputs["REMEMBERED"][0, : len(reached)] = 1
        for place, index in enumerate(pointed):
            inputs["POINTERS"][0, place] = answers[index].pointer
        inputs["POINTED"][0, : len(pointed)] = 1
        return self._arrays.own(engine(inputs)["IMAGE"][0])
