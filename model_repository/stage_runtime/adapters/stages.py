"""Stages of builds whose adapters change the image features: one encoding for the sound, and one for prompts.

By the sound the decoder reads features with the sound in them. Prompts beside a sound are SAM2's own affair: they are
decoded from what SAM2 itself makes of the frames, which is a second encoding. Prompts alone are decoded from features
that heard nothing, where the adapters add what they add to every picture.
"""

from collections.abc import Mapping

import numpy as np

from auralsam2_client.contract import (
    ADAPTERS,
    AUDIO_TOKENS,
    AURALSAM2,
    FRAMES,
    IMAGE_FEATURES,
    PROMPT_FEATURES,
    PROMPTS_COME,
    SOUND_FEATURES,
    VISUAL_FEATURES,
    Parameter,
)

from ..engine import Array
from ..engine.stage import ClipStage, TensorShape
from ..frames.encoded import Decoding
from ..frames.stages import take_frames
from ..prompts.reading import use_audio

OF_PROMPTS = ("POINT_LABELS", "MASK_INPUT", PROMPTS_COME)
"""Where one of these comes, prompts are decoded."""


def has_adapters(parameters: Mapping[str, str]) -> bool:
    """Tell by a model's parameters whether the sound comes in by adapters, which change the image features."""
    return parameters.get(Parameter.METHOD, AURALSAM2) != AURALSAM2


def prompt_features(parameters: Mapping[str, str]) -> tuple[str, ...]:
    """Name what prompts are decoded from, in the order of IMAGE_FEATURES."""
    return PROMPT_FEATURES if has_adapters(parameters) else IMAGE_FEATURES


def sound_features(parameters: Mapping[str, str]) -> tuple[str, ...]:
    """Name what the decoder reads of the sound."""
    return VISUAL_FEATURES if has_adapters(parameters) else SOUND_FEATURES


def adapters_input(frames: TensorShape) -> TensorShape:
    """Describe the graph's own input: whether the adapters add, frame by frame."""
    return TensorShape(ADAPTERS, np.dtype(np.float32), frames.shape[:1])


class AdaptedFramesStage:
    """Encodes the image as often as the answer needs it."""

    def __init__(self, stage: ClipStage, encoded: Decoding, shapes: Mapping[str, TensorShape]) -> None:
        """`shapes`: of the model's tensors, by name."""
        self._stage, self._encoded = stage, encoded
        num_frames = shapes[FRAMES].shape[0]
        self._added, self._alone = np.ones(num_frames, np.float32), np.zeros(num_frames, np.float32)
        self._unread = {name: np.zeros(shapes[name].shape, np.float32) for name in PROMPT_FEATURES}

    def __call__(self, inputs: Mapping[str, Array], given: Mapping[str, Array]) -> dict[str, Array]:
        """Raises: BadRequest as `take_frames`, and as Stage."""
        frames = {FRAMES: take_frames(given, self._encoded)}
        heard = self._stage({**inputs, **frames, ADAPTERS: self._added})
        if not any(name in given for name in OF_PROMPTS):
            return heard | self._unread
        if not use_audio(given):
            return heard | _renamed(heard)
        # An answer is the engine's own memory until its next call.
        kept = {name: heard[name].copy() for name in (*IMAGE_FEATURES, AUDIO_TOKENS)}
        return kept | _renamed(self._stage({**inputs, **frames, ADAPTERS: self._alone}))


def _renamed(features: Mapping[str, Array]) -> dict[str, Array]:
    return dict(zip(PROMPT_FEATURES, (features[name] for name in IMAGE_FEATURES), strict=True))
