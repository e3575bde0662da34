"""Table 5's question: what the size of the image is worth, and what it costs."""

from collections.abc import Callable, Mapping
from pathlib import Path

from auralsam2.data.world.scenes import Split
from auralsam2.model.loading import load_network
from loadtests.tables import seeds, speed
from loadtests.tables.paper import TABLE_1, WITH_SAM2
from loadtests.tables.parts import Part

BY_SOUND = tuple(row for row in TABLE_1 if row.name == "AuralSAM2" and row.prompts == "audio")
assert all(WITH_SAM2 not in row.name for row in BY_SOUND)


def judge(sizes: tuple[int, ...], split: Split, count: int, part: Part, progress: Callable[[str], None]) -> None:
    """Judge `compact` at each size, M_J and M_F."""
    for size in sizes:
        if str(size) not in part.found:
            part.keep(str(size), seeds.judge(load_network("compact", size)[0], split, count))
            progress(f"{size} px is judged")


def measure(builds: Mapping[str, Path], rounds: int, folder: Path, about: dict[str, object], budget_s: float) -> None:
    """Time builds of AuralSAM2 one after the other, by sound, each beside its published form; a part for each."""
    for name, build in builds.items():
        part = Part(folder, f"sizes-{name}", about)
        speed.measure(BY_SOUND, {BY_SOUND[0].method: build}, rounds, part, budget_s)
