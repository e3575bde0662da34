"""Table 4's question: how far figures move with the seed of the training. Runs are far shorter than the shipped one."""

from collections.abc import Callable, Sequence
from pathlib import Path

from auralsam2.data.world.held_out import open_split
from auralsam2.data.world.scenes import Split
from auralsam2.evaluation.in_process import network_predictor
from auralsam2.evaluation.protocol import protocol_of
from auralsam2.evaluation.scoring import evaluate
from auralsam2.model.loading import load_network
from auralsam2.model.sounding_sam2 import SoundingSAM2
from auralsam2.training.recipes import settings_for
from auralsam2.training.run.trainer import train
from loadtests.tables.parts import Part


def measure(
    seeds: Sequence[int],
    steps: int,
    split: Split,
    count: int,
    folder: Path,
    part: Part,
    progress: Callable[[str], None] = lambda line: None,
) -> None:
    """Train `compact` once with each seed, and judge it; a run that was stopped goes on from its checkpoint.

    Args:
        folder: of the runs, one for each seed.
    """
    for seed in seeds:
        if str(seed) in part.found:
            continue
        weights = train(settings_for("project", seed=seed, steps=steps), folder / str(seed))
        progress(f"seed {seed} is trained")
        part.keep(str(seed), judge(load_network("compact", checkpoint=str(weights))[0], split, count))


def judge(network: SoundingSAM2, split: Split, count: int) -> dict[str, float | None]:
    """Compute M_J and M_F of the first `count` held-out clips of a split, as the protocol `project` does."""
    protocol = protocol_of("project")
    found = evaluate(split, open_split(split, count), network_predictor(network), protocol=protocol)
    score = found.scores[found.headline]
    return {"m_j": score.mean_jaccard, "m_f": score.mean_f_score}
