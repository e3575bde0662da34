"""Marks on the demo's clip, requests that carry them, and when two answers are the same."""

from typing import Any

import numpy as np
import tritonclient.grpc as triton
from numpy.typing import NDArray

from auralsam2_client.calls.segmentation import Segmentation
from auralsam2_client.contract import prompt_tensors
from auralsam2_client.prompts import Prompts, frame_prompt
from service.server.config import ServerConfig

# The triangle sounds at second 1; the disc, which does so at second 0, is silent then.
FRAME = 1
LOUD, SILENT = 1, 0

CLIP: dict[str, NDArray[Any]] = {
    "FRAMES": np.zeros((5, 256, 256, 3), np.uint8),
    "AUDIO": np.zeros((5, 15600, 2), np.float32),
}
GOOD = prompt_tensors(frame_prompt(Prompts(points=[(5, 6, "+")], frame=0), 5, 256, 256, 256))


def box_of(mask: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    rows, columns = np.nonzero(mask)
    return float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1)


def middle_of(mask: NDArray[np.bool_]) -> tuple[float, float]:
    rows, columns = np.nonzero(mask)
    return float(columns.mean()), float(rows.mean())


def jaccard(found: NDArray[np.bool_], wanted: NDArray[np.bool_]) -> float:
    return float((found & wanted).sum() / max(1, (found | wanted).sum()))


def same(found: Segmentation, wanted: Segmentation) -> bool:
    return found.mask_logits.tobytes() == wanted.mask_logits.tobytes() and found.iou.tobytes() == wanted.iou.tobytes()


def raw(config: ServerConfig, model: str, tensors: dict[str, NDArray[Any]], **sequence: Any) -> Any:
    """A request that our client would never send."""
    types = {"uint8": "UINT8", "float32": "FP32", "int32": "INT32", "bool": "BOOL", "object": "BYTES"}
    inputs = [
        triton.InferInput(name, list(value.shape), types[value.dtype.name]).set_data_from_numpy(value)
        for name, value in tensors.items()
    ]
    with triton.InferenceServerClient(config.grpc_url) as wire:
        return wire.infer(model, inputs, client_timeout=60, **sequence)
