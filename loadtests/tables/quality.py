"""Table 1's M_J and M_F: every row on the same held-out clips of the procedural world, in this process, in float32.

As the service's callers do, a prompt marks what sounds in one frame, the first in which anything does, and is tracked
to the others; points are four, drawn evenly inside, as in the paper. Clips without a sounding object are left out of
all rows. Beside each figure stands its 95 % interval over clips (bootstrap).
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from auralsam2.data.samples import Sample
from auralsam2.data.world.held_out import SEED, open_split
from auralsam2.data.world.scenes import Split
from auralsam2.evaluation.clicks import box_of, points_in
from auralsam2.evaluation.prompts import NUM_POINTS, Found, combine
from auralsam2.evaluation.quality import f_curves, f_score, jaccard
from auralsam2.model.adapted_sam2 import AdaptedSAM2
from auralsam2.model.sounding_sam2 import SoundingSAM2
from auralsam2.network.image_encoder import normalise
from auralsam2.network.log_mel import LogMel
from auralsam2.network.tracker import ImageFeatures
from auralsam2.prompted.prompts import FramePrompt
from auralsam2_client.contract import COMBINATIONS, MASK_STRIDE
from loadtests.tables.paper import Row
from loadtests.tables.parts import Part

NUM_DRAWS = 2000


def measure(
    rows: Sequence[Row],
    networks: Mapping[str, SoundingSAM2],
    split: Split,
    count: int,
    part: Part,
    progress: Callable[[str], None] = lambda line: None,
) -> None:
    """Score the first `count` clips of a split: under each clip's name M_J and M_F by row, None where nothing sounds.

    Args:
        networks: by method, all on one SAM2.
    """
    log_mel = LogMel()
    for number, unread in enumerate(open_split(split, count)):
        if unread.name in part.found:
            continue
        sample = unread.read()
        scores = None
        if sample.masks.any():
            with torch.inference_mode():
                masks = answers(rows, networks, sample, log_mel, np.random.default_rng([SEED, 29, number]))
            scores = {key: score(logits, sample.masks) for key, logits in masks.items()}
        part.keep(unread.name, scores)
        if (number + 1) % 10 == 0:
            progress(f"{number + 1} of {count} clips")


def answers(
    rows: Sequence[Row],
    networks: Mapping[str, SoundingSAM2],
    sample: Sample,
    log_mel: LogMel,
    rng: np.random.Generator,
) -> dict[str, Tensor]:
    """Answer one clip by every row: chosen logits [T, S/4, S/4] by the row's key."""
    frames, heard = normalise(torch.from_numpy(sample.frames)), log_mel(torch.from_numpy(sample.windows))
    prompts = marks(sample.masks, rng)
    known: dict[tuple[str, str], Found] = {}

    def by_sound(method: str) -> Found:
        if (method, "audio") not in known:
            out = networks[method](frames, heard)
            known[method, "audio"] = Found(out.select(), out.iou)
        return known[method, "audio"]

    def by_prompts(method: str, kinds: str, image: Callable[[SoundingSAM2], ImageFeatures]) -> Found:
        if (method, kinds) not in known:
            found = networks[method].track_prompts(image(networks[method]), [prompts[kinds]])
            known[method, kinds] = Found(found.masks, found.iou)
        return known[method, kinds]

    def own(network: SoundingSAM2) -> ImageFeatures:
        return network.silent_features(frames) if isinstance(network, AdaptedSAM2) else network.image_features(frames)

    plain = next(method for method, network in networks.items() if not isinstance(network, AdaptedSAM2))
    found: dict[str, Tensor] = {}
    for row in rows:
        kinds = row.prompts.removeprefix("audio+")
        if row.prompts == "audio":
            found[row.key] = by_sound(row.method).masks
        elif kinds == row.prompts:
            found[row.key] = by_prompts(row.method, kinds, own).masks
        else:
            # SAM2's own result, which all methods share.
            sam2 = by_prompts(plain, kinds, own)
            found[row.key] = combine(by_sound(row.method), sam2, COMBINATIONS[0])
    return found


def marks(truth: NDArray[np.bool_], rng: np.random.Generator) -> dict[str, FramePrompt]:
    """Mark what sounds in the first frame in which anything does, by each kind of prompt."""
    frame = int(np.argmax(truth.any((1, 2))))
    own = truth[frame]
    x0, y0, x1, y1 = box_of(own)
    box = np.array([(x0, y0), (x1, y1)], np.float32)
    points = points_in(own, NUM_POINTS, rng)
    inside = [1] * NUM_POINTS
    cells = torch.from_numpy(own[MASK_STRIDE // 2 :: MASK_STRIDE, MASK_STRIDE // 2 :: MASK_STRIDE].astype(np.float32))

    def prompt(coords: NDArray[np.float32], labels: list[int]) -> FramePrompt:
        return FramePrompt(frame, torch.from_numpy(coords), torch.tensor(labels))

    return {
        "points": prompt(points, inside),
        "box": prompt(box, [2, 3]),
        "points+box": prompt(np.concatenate([box, points]), [2, 3, *inside]),
        "mask": FramePrompt(frame, torch.zeros(0, 2), torch.zeros(0), 2 * cells - 1),
    }


def score(logits: Tensor, truth: NDArray[np.bool_]) -> dict[str, float]:
    """Compute M_J and M_F of one clip in which something sounds."""
    full = F.interpolate(logits[None], size=truth.shape[1:], mode="bilinear", align_corners=False)[0]
    m_f = f_score(f_curves(torch.sigmoid(full).numpy(), truth))
    assert m_f is not None, "some frame shows an object"
    return {"m_j": float(jaccard((full > 0).numpy(), truth).mean()), "m_f": m_f}


def summary(found: Mapping[str, Mapping[str, Mapping[str, float]] | None]) -> dict[str, dict[str, list[float]]]:
    """Compute, by row and figure, the mean over clips and its 95 % interval: [mean, low, high]."""
    scored = [scores for scores in found.values() if scores is not None]
    if not scored:
        return {}
    return {
        key: {name: interval(np.array([scores[key][name] for scores in scored])) for name in ("m_j", "m_f")}
        for key in scored[0]
    }


def interval(values: NDArray[np.float64]) -> list[float]:
    """Compute the mean of values [N] and its 95 % interval, by drawing N of them again and again."""
    rng = np.random.default_rng(0)
    means = values[rng.integers(len(values), size=(NUM_DRAWS, len(values)))].mean(1)
    return [float(values.mean()), *(float(value) for value in np.quantile(means, (0.025, 0.975)))]
