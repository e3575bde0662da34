"""The paper's throughput tables beside ours: frames a second by method and prompts, and by network and resolution.

Measured are the service, through gRPC, and the published implementation: the network in plain PyTorch, eager float32,
unfused, on the same cores. Both answer the same clip in turns within one run, so that a slow minute slows both. The
paper's figures are of its authors' GPU: they say how methods compare there, and nothing about the figures beside them.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from auralsam2_client.calls.wire import ClipShape
from auralsam2_client.errors import AuralServeError, ServerFault
from auralsam2_client.new_file import write_new
from loadtests.generator.clips import Clip, procedural
from loadtests.generator.modes import MODES, Mode
from loadtests.generator.sender import OK, Sender
from loadtests.reports.picture import draw_table
from loadtests.reports.summary import machine, machine_sentence
from service.builds.manifest import Manifest, read_manifest
from service.server.serving import serve_build

PAPER_GPU = "the authors' GPU, which this machine is not"
SERVICE, PUBLISHED = "AuralSAM2, this service", "AuralSAM2, published implementation"
TABLE_5_NOTE = "The figures of the paper's Table 5 are not at hand here, so the paper's column stays empty."
# Table 1: method, prompts, frames a second as printed. Ours stand under the method that they implement.
TABLE_1: tuple[tuple[str, str, float], ...] = (
    ("SAM2", "points", 17.8),
    ("SAM2", "box", 17.4),
    ("SAM2", "mask", 16.9),
    ("SAM2", "points+box", 17.2),
    ("GAVS", "points+box", 16.9),
    ("SAMA-AVS", "points+box", 17.0),
    ("AuralSAM2", "points+box", 17.2),
    ("GAVS", "audio", 14.8),
    ("SAMA-AVS", "audio", 16.3),
    ("AuralSAM2", "audio", 16.4),
    ("GAVS (w/ SAM2)", "audio+points+box", 8.7),
    ("SAMA-AVS (w/ SAM2)", "audio+points+box", 9.9),
    ("AuralSAM2 (w/ SAM2)", "audio+points+box", 14.1),
)
# Rows of Table 1 that are this service in one of its modes.
OURS = ("SAM2", "AuralSAM2", "AuralSAM2 (w/ SAM2)")
NOT_MEASURED = "not measured: this build takes no prompts"
# Of a build whose rounds take long: a median and its spread need so many.
FEWEST_ROUNDS = 5


@dataclass(frozen=True)
class Timed:
    """Seconds of one clip, over the rounds, one way of computing it."""

    method: str
    prompts: str
    build: str
    image_size: int
    num_frames: int
    seconds: tuple[float, ...]

    def record(self) -> dict[str, Any]:
        fast, median, slow = (float(np.quantile(self.seconds, share)) for share in (0.2, 0.5, 0.8))
        return {
            "method": self.method,
            "prompts": self.prompts,
            "build": self.build,
            "image_size": self.image_size,
            "num_frames": self.num_frames,
            "rounds": len(self.seconds),
            "fps": {
                "median": self.num_frames / median,
                "p20": self.num_frames / slow,
                "p80": self.num_frames / fast,
            },
            "latency_ms": {f"p{q}": 1e3 * float(np.percentile(self.seconds, q)) for q in (50, 95, 99)},
        }


def measure(build: Path, rounds: int, budget_s: float) -> list[Timed]:
    """Time every offered mode through the service, and the published implementation with sound, in turns.

    Args:
        budget_s: where `rounds` would take longer than this, there are fewer, but FEWEST_ROUNDS at least.
    Raises: AuralServeError when the server does not start or does not answer.
    """
    manifest = read_manifest(build)
    clip = procedural(ClipShape(manifest.num_frames, manifest.image_size), 1)[0]
    with serve_build(build) as launcher:
        ways: list[tuple[str, str, Callable[[], object]]] = [
            (SERVICE, mode.prompts, _through_service(launcher.config.grpc_url, mode, clip))
            for mode in MODES.values()
            if manifest.in_python or mode.prompts == "audio"
        ]
        ways.append((PUBLISHED, "audio", published(manifest, clip)))
        seconds: list[list[float]] = [[] for _ in ways]
        first = time.perf_counter()
        for _, _, call in ways:  # the warm-up
            call()
        rounds = max(FEWEST_ROUNDS, min(rounds, int(budget_s / (time.perf_counter() - first))))
        for _ in range(rounds):
            for (_, _, call), spent in zip(ways, seconds, strict=True):
                started = time.perf_counter()
                call()
                spent.append(time.perf_counter() - started)
    return [
        Timed(method, prompts, manifest.name, manifest.image_size, manifest.num_frames, tuple(spent))
        for (method, prompts, _), spent in zip(ways, seconds, strict=True)
    ]


def _through_service(url: str, mode: Mode, clip: Clip) -> Callable[[], object]:
    sender = Sender(url, mode, [mode.prepare(clip)], timeout_s=600)

    def call() -> None:
        outcome, failure = sender.send()
        if failure is not None:
            raise failure
        if outcome.code != OK:
            raise ServerFault(f"The clip {outcome.id} ended as {outcome.code}. Look at the server's log.")

    return call


def published(manifest: Manifest, clip: Clip) -> Callable[[], object]:
    """Build the network of a preset in the published steps, eager, float32, from the clip's bytes to its logits."""
    import torch

    from auralsam2.model.published import Published
    from export.settings import ExportSettings, load_aural_sam2

    settings = ExportSettings(manifest.preset, image_size=manifest.image_size, num_frames=manifest.num_frames)
    network = Published(load_aural_sam2(settings))
    frames, audio = torch.from_numpy(clip.frames), torch.from_numpy(clip.audio)

    return lambda: network(frames, audio)


def tables(measured: Sequence[Timed]) -> dict[str, list[dict[str, Any]]]:
    """Build the rows of both tables. A row that is not measured says why in `note`."""
    records = [timed.record() for timed in measured]
    for record in records:
        beside = next((row for row in records if row["method"] == PUBLISHED and row["build"] == record["build"]), None)
        if beside is not None and record["prompts"] == "audio":
            record["ratio_to_published"] = record["fps"]["median"] / beside["fps"]["median"]
    first: list[dict[str, Any]] = []
    for method, prompts, paper_fps in TABLE_1:
        row = {"method": method, "prompts": prompts, "paper_fps": paper_fps}
        if method not in OURS:
            first.append(row | {"note": "another method; not implemented here"})
            continue
        ours = [record for record in records if record["prompts"] == prompts]
        if not ours:
            first.append(row | {"note": NOT_MEASURED})
        first += [row | record | {"paper_method": method} for record in ours]
    return {"table_1": first, "table_5": [record | {"paper_fps": None} for record in records]}


def markdown(found: dict[str, list[dict[str, Any]]], caption: str) -> str:
    head = (
        "| method | prompts | paper, FPS | network, size | here, FPS (p20-p80) | p50 / p95 / p99 ms | x published |\n"
        "|---|---|---:|---|---:|---:|---:|\n"
    )
    lines = [f"Table 1. The paper's column was measured on {PAPER_GPU}.", "", head + _lines(found["table_1"])]
    lines += [f"Networks and resolutions. {TABLE_5_NOTE}", "", head + _lines(found["table_5"]), caption, ""]
    return "\n".join(lines)


def _lines(rows: Sequence[dict[str, Any]]) -> str:
    text = ""
    for row in rows:
        paper = "" if row["paper_fps"] is None else f"{row['paper_fps']:.1f}"
        text += f"| {row['method']} | {row['prompts']} | {paper} | "
        if "fps" not in row:
            text += f"| {row['note']} | | |\n"
            continue
        fps, latency = row["fps"], row["latency_ms"]
        ratio = f"{row['ratio_to_published']:.2f}" if "ratio_to_published" in row else ""
        text += (
            f"{row['build']} | {fps['median']:.1f} ({fps['p20']:.1f}-{fps['p80']:.1f}) |"
            f" {latency['p50']:.0f} / {latency['p95']:.0f} / {latency['p99']:.0f} | {ratio} |\n"
        )
    return text


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtests.throughput_table", description=__doc__)
    parser.add_argument("--build", type=Path, action="append", required=True, help="may be given several times")
    parser.add_argument("--rounds", type=int, default=30, help="calls of each build; default: %(default)s")
    parser.add_argument(
        "--budget",
        type=float,
        default=180.0,
        help="seconds for a build; a heavy one gets fewer rounds; default: %(default)s",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("out") / "throughput", help="folder for the report; default: %(default)s"
    )
    given = parser.parse_args(arguments)
    measured: list[Timed] = []
    try:
        for build in given.build:
            measured += measure(build, given.rounds, given.budget)
        engines = sorted({f"{m.engine} {m.precision}" for m in map(read_manifest, given.build)})
    except AuralServeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    found, here = tables(measured), machine()
    rounds = sorted({len(timed.seconds) for timed in measured}, reverse=True)
    caption = (
        f"Here: {machine_sentence(here)}; the service with {', '.join(engines)}, one clip at a time, warm,"
        f" {', '.join(map(str, rounds))} rounds in turns with the published implementation (PyTorch"
        f" {here['versions']['torch']}, eager float32)."
    )
    given.out.mkdir(parents=True, exist_ok=True)
    write_new(given.out / "throughput.md", markdown(found, caption))
    record = {"machine": here, "engines": engines, "paper_gpu": PAPER_GPU, "caption": caption, **found}
    write_new(given.out / "throughput.json", json.dumps(record, indent=1) + "\n")
    draw_table(found["table_5"], caption, given.out / "throughput.png")
    print(markdown(found, caption))
    return 0


if __name__ == "__main__":
    sys.exit(main())
