"""SAM2's own video predictor, as its package ships it, on frames that lie in memory: the row that others know.

Changed: the function that reads frames from files gives those of the clip, and the bar of progress is left out.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import hydra.utils
import sam2
import torch
from omegaconf import OmegaConf
from sam2 import sam2_video_predictor
from torch import Tensor

from auralsam2 import AuralSAM2
from auralsam2.network import image_encoder
from loadtests.cases.case import Case

CONFIGURATIONS = {"hiera_tiny": "t", "hiera_small": "s", "hiera_base_plus": "b+", "hiera_large": "l"}
"""By preset, what SAM2's file of its configuration ends with."""


class NoSuchPredictorError(LookupError):
    """SAM2 has no configuration of that name."""


def build(case: Case, model: AuralSAM2) -> Any:
    """Build the predictor of a preset, with the weights of `model` and on its device.

    Raises: NoSuchPredictorError for a preset that SAM2 does not have.
    """
    if case.preset not in CONFIGURATIONS:
        raise NoSuchPredictorError(
            f"SAM2 has no configuration for {case.preset!r}; it has {', '.join(CONFIGURATIONS)}."
        )
    file = f"sam2_hiera_{CONFIGURATIONS[case.preset]}.yaml"
    config = OmegaConf.load(Path(sam2.__file__).parent / "configs" / "sam2" / file)
    config.model.image_size = case.image_size
    config.model._target_ = "sam2.sam2_video_predictor.SAM2VideoPredictor"
    predictor = hydra.utils.instantiate(config.model, _recursive_=True)
    predictor.load_state_dict(model.v_model.state_dict())
    return predictor.to(next(model.parameters()).device).eval()


@contextmanager
def _frames_in_memory(images: Tensor) -> Iterator[None]:
    def load_video_frames(video_path: object, **_: object) -> tuple[Tensor, int, int]:
        return images, images.shape[-2], images.shape[-1]

    with (
        patch.object(sam2_video_predictor, "load_video_frames", load_video_frames),
        patch.object(sam2_video_predictor, "tqdm", lambda order, **_: order),
    ):
        yield


def track_point(predictor: Any, frames: Tensor) -> Tensor:
    """Track what one point in the middle of frame 0 marks through a clip, under autocast to bfloat16.

    Args:
        frames: [T, S, S, 3] uint8, on the predictor's device.
    Returns: [T, S, S] float logits.
    """
    size = frames.shape[1]
    with torch.inference_mode(), torch.autocast(frames.device.type, torch.bfloat16):
        images = image_encoder.normalise(frames)
        with _frames_in_memory(images):
            state = predictor.init_state("")
            predictor.add_new_points_or_box(state, 0, 1, points=[[size / 2, size / 2]], labels=[1])
            masks = [masks[0, 0] for _, _, masks in predictor.propagate_in_video(state)]
    return torch.stack(masks)
