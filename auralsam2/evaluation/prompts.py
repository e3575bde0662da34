"""Quality of prompts beside sound: `python -m auralsam2.evaluation.prompts`, on held-out clips of the procedural world.

Two questions of the paper. What box and four points add to sound (Table 1, "w/ SAM2"): both results come from one image
encoding and are combined in logit space. And whether a person's clicks help, round by round: one click in the middle of
the object, then each time one in the middle of the largest error, with the logits of the round before.
Prompts are given for every frame that shows a sounding object; the others are tracked.
"""

import argparse
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from auralsam2.data.samples import Sample
from auralsam2.data.world.held_out import NUM_CLIPS, SEED, read_split
from auralsam2.data.world.scenes import SPLITS, Split
from auralsam2.evaluation.clicks import Click, box_of, corrective_click, points_in
from auralsam2.evaluation.quality import jaccard
from auralsam2.model.aural_sam2 import AuralSAM2
from auralsam2.model.loading import load_aural_sam2
from auralsam2.network.image_encoder import normalise
from auralsam2.network.log_mel import LogMel
from auralsam2.prompted.prompts import PREVIOUS_LIMIT, FramePrompt
from auralsam2_client.contract import COMBINATIONS

NUM_POINTS, NUM_ROUNDS = 4, 3


class Found(NamedTuple):
    """One clip."""

    masks: Tensor
    """[T, S/4, S/4] chosen logits."""
    iou: Tensor
    """[T, 3]."""


def combine(audio: Found, prompted: Found, rule: str) -> Tensor:
    """Combine the chosen masks of both, [T, S/4, S/4], as `stage_runtime/prompts/combination.py` does when serving."""
    if rule == "best_iou":
        better = audio.iou.amax(1) >= prompted.iou.amax(1)
        return torch.where(better[:, None, None], audio.masks, prompted.masks)
    if rule == "union":
        return torch.maximum(audio.masks, prompted.masks)
    limited = [found.masks.clamp(-PREVIOUS_LIMIT, PREVIOUS_LIMIT) for found in (audio, prompted)]
    return 0.5 * (limited[0] + limited[1])


def enlarge(logits: Tensor, size: int) -> NDArray[np.bool_]:
    """Enlarge logits [T, S/4, S/4] to masks [T, size, size]."""
    full = F.interpolate(logits[None], size=(size, size), mode="bilinear", align_corners=False)[0]
    return np.asarray((full > 0).numpy())


class _Clip:
    """One sample, encoded once."""

    def __init__(self, model: AuralSAM2, log_mel: LogMel, sample: Sample) -> None:
        self.model, self.truth, self.size = model, sample.masks, sample.masks.shape[-1]
        frames = normalise(torch.from_numpy(sample.frames))
        out = model(frames, log_mel(torch.from_numpy(sample.windows)))
        self.audio = Found(out.select(), out.iou)
        self.image = model.image_features(frames)
        self.shown = [t for t, mask in enumerate(sample.masks) if mask.any()]

    def score(self, logits: Tensor) -> list[float]:
        """The Jaccard index of each frame."""
        return list(jaccard(enlarge(logits, self.size), self.truth))

    def prompted(self, prompts: Sequence[FramePrompt]) -> Found:
        found = self.model.track_prompts(self.image, prompts)
        return Found(found.masks, found.iou)

    def points_and_box(self, rng: np.random.Generator) -> Found:
        prompts = []
        for frame in self.shown:
            x0, y0, x1, y1 = box_of(self.truth[frame])
            coords = np.concatenate([[(x0, y0), (x1, y1)], points_in(self.truth[frame], NUM_POINTS, rng)])
            labels = torch.tensor([2, 3] + [1] * NUM_POINTS)
            prompts.append(FramePrompt(frame, torch.from_numpy(coords.astype(np.float32)), labels))
        return self.prompted(prompts)

    def rounds(self) -> list[Found]:
        """Clicks in every frame that shows an object, one more each round."""
        nothing = np.zeros(self.truth.shape[1:], bool)
        clicks: dict[int, list[Click]] = {frame: [] for frame in self.shown}
        found: list[Found] = []
        for _ in range(NUM_ROUNDS):
            masks = enlarge(found[-1].masks, self.size) if found else None
            for frame in self.shown:
                click = corrective_click(nothing if masks is None else masks[frame], self.truth[frame])
                if click is not None:
                    clicks[frame].append(click)
            found.append(
                self.prompted(
                    [
                        FramePrompt(
                            frame,
                            torch.tensor([[c.x, c.y] for c in own], dtype=torch.float32),
                            torch.tensor([c.label for c in own]),
                            previous=found[-1].masks[frame] if found else None,
                        )
                        for frame, own in clicks.items()
                    ]
                )
            )
        return found


def score_prompts(
    samples: Iterable[Sample], model: AuralSAM2, progress: Callable[[int], None] = lambda done: None
) -> dict[str, float]:
    """Compute M_J by mode, over all frames of the clips in which anything sounds; rounds are "R1", "R2", ...

    Frames without object count the share left empty, as in `evaluate`.
    """
    log_mel, tally = LogMel(), dict[str, list[float]]()
    for number, sample in enumerate(samples):
        with torch.inference_mode():
            clip = _Clip(model, log_mel, sample)
            if not clip.shown:
                continue
            prompted = clip.points_and_box(np.random.default_rng([SEED, number]))
            answers = {"audio": clip.audio.masks, "points+box": prompted.masks}
            answers |= {f"audio+points+box, {rule}": combine(clip.audio, prompted, rule) for rule in COMBINATIONS}
            answers |= {f"R{number}": found.masks for number, found in enumerate(clip.rounds(), 1)}
            for name, logits in answers.items():
                tally.setdefault(name, []).extend(clip.score(logits))
        progress(number + 1)
    return {name: float(np.mean(values)) for name, values in tally.items()}


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m auralsam2.evaluation.prompts", description=__doc__)
    parser.add_argument("--checkpoint", help="weights of `compact`; default: those that are shipped")
    parser.add_argument(
        "--split", choices=SPLITS, default="multi", help="of the procedural world; default: %(default)s"
    )
    parser.add_argument("--clips", type=int, default=NUM_CLIPS, help="of the split; default: %(default)s")
    given = parser.parse_args()
    split: Split = given.split
    model, about = load_aural_sam2("compact", checkpoint=given.checkpoint)
    print(f"{about}, split {split}, the first {given.clips} held-out clips, protocol project, float32, M_J:")
    for name, value in score_prompts(read_split(split, given.clips), model).items():
        print(f"  {name:28} {value:.3f}")


if __name__ == "__main__":
    main()
