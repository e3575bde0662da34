"""Quality of tracking by a mark alone: `python -m auralsam2.evaluation.tracking`, on held-out clips.

One thing is marked in one frame, whether or not it sounds, and the network carries it over the clip: without sound, and
combined with what the network says to the sound of another clip. Judged against the thing itself, the marked frame and
the others apart, frames in which less than `MIN_PIXELS` of it are seen left out.
"""

import argparse
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from auralsam2.data import world
from auralsam2.data.world.held_out import NUM_CLIPS, SEED
from auralsam2.data.world.scenes import SPLITS, Painter, Split, draw_scene
from auralsam2.evaluation.clicks import MIN_PIXELS, box_of, corrective_click
from auralsam2.evaluation.prompts import Found, combine, enlarge
from auralsam2.evaluation.quality import jaccard
from auralsam2.model.aural_sam2 import AuralSAM2
from auralsam2.model.loading import load_aural_sam2
from auralsam2.network.image_encoder import normalise
from auralsam2.network.log_mel import LogMel
from auralsam2.prompted.prompts import FramePrompt
from auralsam2_client.media.sound_windows import clip_windows

MARKS = ("click", "box")


class Marked(NamedTuple):
    """One held-out clip and the thing that is marked in it."""

    frames: NDArray[np.uint8]
    """[T, S, S, 3]."""
    windows: NDArray[np.float32]
    """[T, 15600, 2]: the sound of the next clip of the split."""
    truth: NDArray[np.bool_]
    """[T, S, S]: the thing."""
    frame: int


def read_marked(split: Split, count: int, size: int = 256) -> Iterator[Marked]:
    """Read the first `count` held-out clips of a split, with a thing drawn in each; those without one are left out."""
    for index in range(count):
        scene, other = (draw_scene(split, "held_out", SEED, number) for number in (index, (index + 1) % NUM_CLIPS))
        rng = np.random.default_rng([SEED, 23, index])
        painter = Painter(scene, size)
        pictures, owners = zip(*(painter.draw(second + 0.5) for second in range(scene.num_frames)), strict=True)
        seen = [
            (frame, thing)
            for frame, own in enumerate(owners)
            for thing in range(int(own.max()) + 1)
            if (own == thing).sum() >= MIN_PIXELS
        ]
        if seen:
            frame, thing = seen[int(rng.integers(len(seen)))]
            truth = np.stack([own == thing for own in owners])
            windows = clip_windows(world.play(other), scene.num_frames)
            yield Marked(np.stack(pictures), windows, truth, frame)


def mark(clip: Marked, kind: str) -> FramePrompt:
    """Mark the thing in its frame, as a person would: a click in its middle, or a box around it."""
    truth = clip.truth[clip.frame]
    if kind == "click":
        click = corrective_click(np.zeros_like(truth), truth)
        assert click is not None
        coords, labels = [[click.x, click.y]], [1]
    else:
        x0, y0, x1, y1 = box_of(truth)
        coords, labels = [[x0, y0], [x1, y1]], [2, 3]
    return FramePrompt(clip.frame, torch.tensor(coords, dtype=torch.float32), torch.tensor(labels))


def score_tracking(
    split: Split, count: int, model: AuralSAM2, progress: Callable[[int], None] = lambda done: None
) -> dict[str, float]:
    """Compute the mean Jaccard index by mark, without sound and with another's, of marked and other frames."""
    log_mel, tally = LogMel(), dict[str, list[float]]()
    for number, clip in enumerate(read_marked(split, count), 1):
        with torch.inference_mode():
            frames = normalise(torch.from_numpy(clip.frames))
            image = model.image_features(frames)
            out = model(frames, log_mel(torch.from_numpy(clip.windows)))
            heard = Found(out.select(), out.iou)
            for kind in MARKS:
                tracked = model.track_prompts(image, [mark(clip, kind)])
                alone = Found(tracked.masks, tracked.iou)
                for sound, logits in (("no sound", alone.masks), ("another's", combine(heard, alone, "mean"))):
                    scores = jaccard(enlarge(logits, clip.truth.shape[-1]), clip.truth)
                    for frame, score in enumerate(scores):
                        if clip.truth[frame].sum() >= MIN_PIXELS:
                            where = "marked" if frame == clip.frame else "others"
                            tally.setdefault(f"{kind}, {sound}, {where}", []).append(float(score))
        progress(number)
    return {name: float(np.mean(values)) for name, values in tally.items()}


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m auralsam2.evaluation.tracking", description=__doc__)
    parser.add_argument("--checkpoint", help="weights of `compact`; default: those that are shipped")
    parser.add_argument("--split", choices=SPLITS, default="multi", help="default: %(default)s")
    parser.add_argument("--clips", type=int, default=NUM_CLIPS, help="held-out clips; default: %(default)s")
    given = parser.parse_args()
    split: Split = given.split
    model, about = load_aural_sam2("compact", checkpoint=given.checkpoint)
    print(f"{about}, split {split}, the first {given.clips} held-out clips, float32, mean Jaccard index:")
    for name, value in score_tracking(split, given.clips, model).items():
        print(f"  {name:28} {value:.3f}")


if __name__ == "__main__":
    main()
