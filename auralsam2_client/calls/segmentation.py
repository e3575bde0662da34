"""A clip on its way to the model, with its prompts, and the answer as a person wants it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auralsam2_client.calls.answers import LOGITS, outputs_of, read_logits, read_rles, wish_tensors
from auralsam2_client.calls.frame_wire import coded_clip_tensors
from auralsam2_client.calls.wire import Arrays, Call, ClipShape, check_takes_prompts, check_takes_text, fit_clip
from auralsam2_client.contract import (
    BUILD_INFO,
    BY_SOUND,
    CLASS_RESULTS,
    PROMPT_MODE,
    WINDOW_SAMPLES,
    BuildInfo,
    prompt_tensors,
)
from auralsam2_client.errors import BadInput, ConfigError
from auralsam2_client.knowledge import read_build_info, read_class_names
from auralsam2_client.labels import enlarge_labels
from auralsam2_client.masks import Rle, from_rle, to_masks
from auralsam2_client.prompts import Prompts, Tensors, frame_prompt, setting_tensors, text_tensors


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The answer for N frames of height x width; S is the model's image size."""

    mask_logits: NDArray[np.float32]  # [N, S/4, S/4]; of answer "bits" 1 or -1; of "rle" [N, 0, 0]
    iou: NDArray[np.float32]  # [N, 3]: predicted, of each candidate mask
    object_score: NDArray[np.float32]  # [N]
    height: int
    width: int
    mode: str = BY_SOUND
    """What made it: "audio", "points+box", "audio+text" and so on."""
    rles: tuple[Rle, ...] = ()
    """Of answer "rle": N masks [height, width]."""
    build: BuildInfo | None = None
    """What made it, where the served build says so."""
    class_map: NDArray[np.uint8] | None = None
    """[N, S/4, S/4], of a build with classes: 1 to K inside the mask, 0 outside."""
    class_scores: NDArray[np.float32] | None = None
    """[N, K] in [0, 1], of a build with classes: is the class among what sounds."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the K classes, in the order of their labels from 1; none of a build without classes."""
        return () if self.build is None else read_class_names(self.build)

    def labels(self) -> NDArray[np.uint8]:
        """Return the classes at the size of the input, [N, H, W]: each pixel of the mask has one, others are 0.

        Raises: ConfigError of a build without classes.
        """
        if self.class_map is None:
            raise ConfigError(
                "This answer names no classes: it is a session's, or of a build that was exported without --classes."
                " Export one with it, and ask with Client.segment."
            )
        return enlarge_labels(self.class_map, self.masks())

    def masks(self) -> NDArray[np.bool_]:
        """Return the masks at the size of the input, [N, H, W] bool: upsampled logits > 0."""
        if self.rles:
            return np.stack([from_rle(rle) for rle in self.rles])
        return to_masks(self.mask_logits, (self.height, self.width))


@dataclass(frozen=True, eq=False)
class PromptedClip:
    """Frames [T, S, S, 3] and audio [T, 15600, 2] as the model takes them, the prompts' tensors, what to ask for."""

    frames: NDArray[np.uint8]
    audio: NDArray[np.float32]
    prompts: Tensors
    outputs: Sequence[str]

    def to_call(self, wire: str) -> Call:
        """Put it as a request, frames "raw" or as files. What it is made of was checked, and is not checked again."""
        return Call(coded_clip_tensors(self.frames, self.audio, self.prompts, wire), self.outputs)


def prepare_clip(
    frames: NDArray[np.uint8],
    audio: NDArray[np.float32] | None,
    shape: ClipShape,
    prompts: Prompts | None,
    use_audio: bool,
    combination: str,
    answer: str = LOGITS,
    text: str | None = None,
) -> PromptedClip:
    """Bring a clip of any size and its prompts to what the model takes. With sound alone nothing is added to the clip.

    Raises: BadInput; ConfigError when the model takes no prompts, or no text, or gives no masks in the form `answer`.
    """
    said = text_tensors(text)
    check_takes_text(said, shape)
    if audio is None:
        if use_audio:
            raise BadInput(
                "audio is None; give the windows that the frames hear, or use_audio=False with prompts or text."
            )
        # The model reads none of it.
        audio = np.zeros((shape.num_frames, WINDOW_SAMPLES, 2), np.float32)
    settings, outputs = setting_tensors(use_audio, combination), outputs_of(answer)
    told = ((BUILD_INFO,) if shape.tells_build else ()) + (CLASS_RESULTS if shape.names_classes else ())
    if prompts is None and not use_audio and not said:
        raise BadInput(
            "use_audio is False and there are no prompts and no text, so that nothing says what to segment. Give one."
        )
    wire_frames, wire_audio = fit_clip(frames, audio, shape)
    N, height, width = frames.shape[:3]
    wish = wish_tensors(outputs, shape, (height, width))
    if prompts is None and not said:
        return PromptedClip(wire_frames, wire_audio, wish, (*outputs, *told))
    tensors = said
    if prompts is not None:
        check_takes_prompts(shape)
        tensors = said | prompt_tensors(frame_prompt(prompts, N, height, width, shape.image_size))
    return PromptedClip(wire_frames, wire_audio, tensors | settings | wish, (*outputs, PROMPT_MODE, *told))


def read_segmentation(answer: Arrays, input_shape: Sequence[int]) -> Segmentation:
    """Read the model's answer. `input_shape` is that of the given frames, [N, H, W, 3]."""
    N, height, width = input_shape[:3]
    mode = bytes(answer[PROMPT_MODE][0]).decode() if PROMPT_MODE in answer else BY_SOUND
    logits, rles = read_logits(answer, N), read_rles(answer, N, height, width)
    build = read_build_info(answer[BUILD_INFO]) if BUILD_INFO in answer else None
    classes = (answer[name][:N] if name in answer else None for name in CLASS_RESULTS)
    scores = answer["IOU"][:N], answer["OBJECT_SCORE"][:N]
    return Segmentation(logits, *scores, height, width, mode, rles, build, *classes)
