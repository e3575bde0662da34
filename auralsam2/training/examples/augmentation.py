"""What a clip's pictures go through before a step, alike for every frame. Sound stays as it is."""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from auralsam2.training.examples.clips import Example

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
# What an affine map uncovers: SAM2's grey in the picture, background in the mask.
_FILL = (123, 116, 103)


@dataclass(frozen=True)
class Augmentation:
    """How far each change may go; one draw a clip."""

    jitter: float = 0.2
    """Brightness, contrast and saturation are each scaled by 1 - jitter to 1 + jitter."""
    greyscale_share: float = 0.1
    max_rotation_degrees: float = 0.0
    max_shear_degrees: float = 0.0
    """Along the rows."""


def affine(example: Example, rotation_degrees: float, shear_degrees: float) -> Example:
    """Shear, then rotate about the centre: pictures bilinearly, masks to the nearest pixel."""
    size = example.frames.shape[1]
    turn, slant = math.radians(rotation_degrees), math.tan(math.radians(shear_degrees))
    forward = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]]) @ [[1, -slant], [0, 1]]
    back = np.linalg.inv(forward)  # PIL asks where each pixel of the result comes from
    offset = size / 2 - back @ (size / 2, size / 2)
    coefficients = tuple(np.column_stack([back, offset]).ravel().tolist())

    def moved(array: NDArray[np.uint8], resampling: Image.Resampling, fill: int | tuple[int, ...]) -> NDArray[np.uint8]:
        image = Image.fromarray(array)
        result = image.transform(image.size, Image.Transform.AFFINE, coefficients, resampling, fillcolor=fill)
        return np.asarray(result, np.uint8)

    frames = np.stack([moved(frame, Image.Resampling.BILINEAR, _FILL) for frame in example.frames])
    masks = np.stack([moved(mask.astype(np.uint8), Image.Resampling.NEAREST, 0) for mask in example.masks])
    return replace(example, frames=frames, masks=masks > 0)


def augment(example: Example, rng: np.random.Generator, how: Augmentation) -> Example:
    """Affine map, colour jitter, greyscale, horizontal flip."""
    if how.max_rotation_degrees or how.max_shear_degrees:
        limits = (how.max_rotation_degrees, how.max_shear_degrees)
        rotation, shear = (float(rng.uniform(-limit, limit)) for limit in limits)
        example = affine(example, rotation, shear)
    frames: NDArray[np.floating] = example.frames.astype(np.float32)
    brightness, contrast, saturation = (np.float32(f) for f in rng.uniform(1 - how.jitter, 1 + how.jitter, 3))
    grey = (frames @ _LUMA)[..., None]
    if rng.uniform() < how.greyscale_share:
        saturation = np.float32(0)
    frames = grey + (frames - grey) * saturation
    frames = (frames - grey.mean()) * (contrast * brightness) + grey.mean() * brightness
    masks = example.masks
    if rng.uniform() < 0.5:
        frames, masks = frames[:, :, ::-1], masks[:, :, ::-1]
    pixels = np.rint(np.clip(frames, 0, 255)).astype(np.uint8)
    return replace(example, frames=np.ascontiguousarray(pixels), masks=np.ascontiguousarray(masks))
