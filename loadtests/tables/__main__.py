"""`python -m loadtests.tables`: the paper's tables on this machine, every row, in one command that can be gone on with.

What was measured lies in files of their own, a part each, under --out; the same command goes on with what is missing.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from auralsam2.data.world.scenes import Split
from auralsam2.evaluation import referring
from auralsam2.model.loading import load_network
from auralsam2.model.shipped import fingerprint, shipped_text_weights, shipped_weights
from auralsam2_client.contract import METHODS
from auralsam2_client.errors import AuralServeError
from auralsam2_client.new_file import write_new
from export.builds.repository import build_repository
from export.errors import ExportError
from export.settings import ExportSettings
from loadtests.reports.summary import machine, machine_sentence
from loadtests.tables import paper, quality, report, seeds, sizes, speed, training_cost
from loadtests.tables.parts import Part
from loadtests.tables.picture import draw
from service.builds.manifest import read_manifest

SPLIT: Split = "multi"
SIZES = (256, 224)
PARTS = ("table 1", "table 4", "table 5", "table 8", "figure 1")


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def find_or_build(settings: ExportSettings, folder: Path) -> Path:
    """Export a build, unless it is there with the weights of now."""
    build = folder / settings.name
    if (build / "manifest.json").is_file() and read_manifest(build).weights == settings.weights_sentence:
        return build
    say(f"exports {build}")
    return build_repository(settings, build, say)


def weights() -> dict[str, str]:
    """Tell the files of weights, by method."""
    paths = {method: shipped_weights("compact", method) for method in METHODS}
    return {method: fingerprint(path) for method, path in paths.items() if path is not None}


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Measure what is asked for and missing; all that is known then, by table."""
    out: Path = given.out
    about: dict[str, object] = {"weights": weights(), "cpu": machine()["cpu"]}
    on_clips = about | {"split": SPLIT, "clips": given.clips}
    speeds = Part(out, "speed", about)
    scores = Part(out, "quality", {"weights": weights(), "split": SPLIT})
    judged, costs = Part(out, "sizes", on_clips), Part(out, "training", about)
    runs = Part(out, "seeds", {"steps": given.steps, "split": SPLIT, "clips": given.clips})
    words = Part(out, "words", {"weights": _text_weights(), "clips": given.clips})
    steps: dict[str, Callable[[], None]] = {
        "table 1": lambda: _table_1(given, speeds, scores),
        "table 4": lambda: seeds.measure(range(given.seeds), given.steps, SPLIT, given.clips, out / "runs", runs, say),
        "table 5": lambda: _table_5(given, judged, about),
        "table 8": lambda: training_cost.measure(METHODS, costs),
        "figure 1": lambda: _figure_1(given, words),
    }
    for name, step in steps.items():
        if name in (given.only or PARTS):
            say(f"{name}:")
            step()
    timed = {path.stem.removeprefix("sizes-"): json.loads(path.read_text())["found"] for path in out.glob("sizes-*")}
    return {
        "split": SPLIT,
        "num_frames": ExportSettings().num_frames,
        "speed": speeds.found,
        "quality": quality.summary(scores.found),
        "clips": len(scores.found),
        "seeds": runs.found,
        "sizes": judged.found,
        "sizes_speed": {name: found for name, found in timed.items() if found},
        "training": costs.found,
        "words": words.found.get("splits", {}),
    }


def _table_1(given: argparse.Namespace, speeds: Part, scores: Part) -> None:
    builds = {method: find_or_build(ExportSettings(method=method), given.builds) for method in METHODS}
    speed.measure(paper.TABLE_1, builds, given.rounds, speeds, given.budget)
    networks = {method: load_network("compact", method=method)[0] for method in METHODS}
    quality.measure(paper.TABLE_1, networks, SPLIT, given.clips, scores, say)


def _text_weights() -> str | None:
    path = shipped_text_weights("compact")
    return None if path is None else fingerprint(path)


def _figure_1(given: argparse.Namespace, words: Part) -> None:
    if "splits" not in words.found and _text_weights() is not None:
        words.keep("splits", referring.score_splits(given.clips, os.cpu_count() or 1, None, say))


def _table_5(given: argparse.Namespace, judged: Part, about: dict[str, object]) -> None:
    sizes.judge(SIZES, SPLIT, given.clips, judged, say)
    wanted = [ExportSettings(image_size=size) for size in SIZES]
    wanted += [ExportSettings("hiera_large", size, read_out="iou") for size in given.large or ()]
    builds = {settings.name: find_or_build(settings, given.builds) for settings in wanted}
    sizes.measure(builds, given.rounds, given.out, about, given.budget)


def positive(text: str) -> int:
    """Read a count. Raises: ValueError below 1."""
    if (count := int(text)) < 1:
        raise ValueError(text)
    return count


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtests.tables", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out") / "tables", help="default: %(default)s")
    parser.add_argument("--builds", type=Path, default=Path("build"), help="folder of the builds; default: %(default)s")
    parser.add_argument("--rounds", type=positive, default=20, help="of Table 1 and 5; default: %(default)s")
    parser.add_argument(
        "--budget", type=float, default=300.0, help="seconds for the rounds of a table; default: %(default)s"
    )
    parser.add_argument("--clips", type=positive, default=100, help="that figures are made of; default: %(default)s")
    parser.add_argument("--seeds", type=positive, default=3, help="of Table 4; default: %(default)s")
    parser.add_argument("--steps", type=positive, default=240, help="of a training of Table 4; default: %(default)s")
    parser.add_argument(
        "--large",
        type=int,
        action="append",
        help="px at which hiera_large is timed in Table 5, may be given several times; default: not at all, since its"
        " export alone takes minutes",
    )
    parser.add_argument("--only", choices=PARTS, action="append", help="may be given several times; default: all")
    given = parser.parse_args(arguments)
    try:
        found = measure(given)
    except (AuralServeError, ExportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    here = machine()
    caption = f"Here: {machine_sentence(here)}; one clip at a time, warm; the published form is eager PyTorch, float32."
    given.out.mkdir(parents=True, exist_ok=True)
    record = {"machine": here, "paper_gpu": paper.GPU, "caption": caption, "steps": given.steps, **found}
    text = report.markdown(record)
    write_new(given.out / "tables.json", json.dumps(record, indent=1) + "\n")
    write_new(given.out / "tables.md", text)
    draw(report.times(found["speed"], found["num_frames"]), found["quality"], caption, given.out / "tables.png")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
