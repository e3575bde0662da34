"""The tables as Markdown: here what was measured, beside it the paper's numbers, which are its authors'."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from auralsam2.training.settings import FULL_STEPS
from auralsam2_client.contract import AURALSAM2
from loadtests.tables import paper
from loadtests.tables.speed import PUBLISHED, SERVICE

Found = Mapping[str, Any]


def markdown(record: Found) -> str:
    """Write all tables of a file of figures that `python -m loadtests.tables` made."""
    frames, split = record["num_frames"], record["split"]
    sizes = {name: times(found, frames)[paper.BESIDE] for name, found in record["sizes_speed"].items()}
    parts = []
    if record["speed"] or record["quality"]:
        parts.append(
            f"### Table 1\n\nFrames a second of `compact` through the service, {frames} frames a clip, and of the"
            f" published form, eager PyTorch, in the same run. M_J and M_F: {record['clips']} held-out clips of"
            f" `{split}`, those without a sounding object left out; prompts mark the first frame in which something"
            f" sounds and are tracked. The paper's columns: AVSBench V1M, Hiera-B+, on {paper.GPU}.\n\n"
            + table_1(times(record["speed"], frames), record["quality"])
        )
    if record["seeds"]:
        parts.append(
            f"### Table 4\n\nHere: `compact`, {record['steps']} steps each instead of the {FULL_STEPS} of the shipped"
            " weights, so that only the spread says something. The paper: AVSBench V1M, whole trainings.\n\n"
            + table_4(record["seeds"])
        )
    if record["sizes"] or sizes:
        parts.append(f"### Table 5\n\n{table_5(record['sizes'], sizes)}")
    if record["training"]:
        parts.append(
            "### Table 8\n\nHere: `compact`, one process, one thread. AuralSAM2's `compact` learns SAM2 and VGGish with"
            " its fuser, for it starts from nothing; adapters lie on what it learned, which stays. The paper: Hiera-B+"
            " on an RTX 4090, SAM2 frozen for all.\n\n" + table_8(record["training"])
        )
    if record["words"]:
        parts.append(
            "### Figure 1\n\nHere: referring clips of the procedural world, the thing that the sentence names;"
            " `needed`: those in which what sounds is not what is named. `wrong text`: the sentence of another clip."
            " The paper: Ref-AVS, seen, Hiera-L.\n\n" + figure_1(record["words"])
        )
    return "\n\n".join([*parts, record["caption"]]) + "\n"


def fps(seconds: Sequence[float], num_frames: int) -> tuple[float, float, float]:
    """Compute frames a second: median, and p20 and p80 over the rounds."""
    fast, median, slow = (float(np.quantile(seconds, share)) for share in (0.2, 0.5, 0.8))
    return num_frames / median, num_frames / slow, num_frames / fast


def times(measured: Found, num_frames: int) -> dict[str, dict[str, Any]]:
    """Compute, by row: frames a second here and in the published form, latency in ms, and the two ratios."""
    found: dict[str, dict[str, Any]] = {}
    for key, seconds in measured.items():
        here, published = (fps(seconds[name], num_frames) for name in (SERVICE, PUBLISHED))
        found[key] = {
            "fps": here,
            "published_fps": published,
            "latency_ms": [1e3 * float(np.percentile(seconds[SERVICE], q)) for q in (50, 95)],
            "of_published": here[0] / published[0],
            "rounds": len(seconds[SERVICE]),
        }
    beside = found.get(paper.BESIDE)
    for row in found.values():
        row["of_beside"] = row["fps"][0] / beside["fps"][0] if beside else None
        row["published_of_beside"] = row["published_fps"][0] / beside["published_fps"][0] if beside else None
    return found


def table_1(speeds: Found, quality: Found) -> str:
    """Write all thirteen rows. `speeds`: of `times`; `quality`: of `quality.summary`."""
    beside = next(row for row in paper.TABLE_1 if row.key == paper.BESIDE)
    lines = [
        "| method | prompts | FPS here (p20-p80) | p50 / p95, ms | x published form | of AuralSAM2 by sound: here |"
        " published form | paper | M_J here (95 %) | M_F here (95 %) | paper: M_J | M_F | FPS |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in paper.TABLE_1:
        time, score = speeds.get(row.key), quality.get(row.key)
        cells = [row.name, row.prompts]
        if time is None:
            cells += ["not measured", "", "", "", ""]
        else:
            median, low, high = time["fps"]
            cells += [f"{median:.1f} ({low:.1f}-{high:.1f})", " / ".join(f"{each:.0f}" for each in time["latency_ms"])]
            cells += [f"{time[name]:.2f}" for name in ("of_published", "of_beside", "published_of_beside")]
        cells.append(f"{row.fps / beside.fps:.2f}")
        cells += ["", ""] if score is None else [_share(score[name]) for name in ("m_j", "m_f")]
        cells += [f"{row.m_j:.2f}", f"{row.m_f:.2f}", f"{row.fps:.1f}"]
        lines.append(_line(cells))
    return "\n".join(lines)


def table_4(found: Found) -> str:
    """Write mean and standard deviation over seeds."""
    lines = ["| | seeds | M_J | M_F |", "|---|---:|---:|---:|"]
    values = {name: 100 * np.array([run[name] for run in found.values()]) for name in ("m_j", "m_f")}
    here = [f"{each.mean():.2f} +- {each.std(ddof=1):.2f}" for each in values.values() if len(each) > 1]
    lines.append(_line(["here", str(len(found)), *(here or ["", ""])]))
    theirs = [f"{mean:.2f} +- {spread:.2f}" for mean, spread in paper.TABLE_4.values()]
    lines.append(_line(["paper", str(paper.TABLE_4_SEEDS), *theirs]))
    return "\n".join(lines)


def table_5(judged: Found, measured: Mapping[str, dict[str, Any]]) -> str:
    """Write what sizes are worth and cost. `measured`: by build, the row of `times`."""
    lines = ["| `compact`, px | M_J here | M_F here |", "|---|---:|---:|"]
    for size, score in judged.items():
        lines.append(_line([size, f"{100 * score['m_j']:.2f}", f"{100 * score['m_f']:.2f}"]))
    lines += ["", "| build | FPS here (p20-p80) | p50 / p95, ms | x published form |", "|---|---:|---:|---:|"]
    for name, time in measured.items():
        median, low, high = time["fps"]
        latency = " / ".join(f"{each:.0f}" for each in time["latency_ms"])
        lines.append(_line([name, f"{median:.2f} ({low:.2f}-{high:.2f})", latency, f"{time['of_published']:.2f}"]))
    lines += ["", "| paper: Hiera-L, px | M_J | M_F |", "|---|---:|---:|"]
    lines += [_line([str(size), f"{m_j:.2f}", f"{m_f:.2f}"]) for size, (m_j, m_f) in paper.TABLE_5.items()]
    return "\n".join(lines)


def table_8(found: Found) -> str:
    """Write what training costs, by method."""
    lines = [
        "| method | learns, M parameters | peak memory here, GB | s a step, one frame / whole clips | hours of"
        f" {FULL_STEPS} steps | of AuralSAM2 | paper: GB | hours | of AuralSAM2 |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    hours = {method: _hours(run["seconds"]) for method, run in found.items()}
    for method, run in found.items():
        short, whole = (float(np.median(run["seconds"][kind])) for kind in ("one frame", "whole clips"))
        gigabytes, theirs = paper.TABLE_8[method]
        cells = [method, f"{run['parameters_that_learn'] / 1e6:.1f}", f"{run['peak_bytes'] / 1e9:.2f}"]
        cells += [f"{short:.2f} / {whole:.2f}", f"{hours[method]:.2f}"]
        cells.append(f"{hours[method] / hours[AURALSAM2]:.2f}" if AURALSAM2 in hours else "")
        cells += [f"{gigabytes:.2f}", f"{theirs:.1f}", f"{theirs / paper.TABLE_8[AURALSAM2][1]:.2f}"]
        lines.append(_line(cells))
    return "\n".join(lines)


def figure_1(splits: Found) -> str:
    """Write what sound, words and both are worth beside the picture."""
    lines = [
        "| split | clips | given | M_J here (95 %) | M_F here | empty masks | paper: J |",
        "|---|---|---|---:|---:|---:|---:|",
    ]
    for split, groups in splits.items():
        for group in ("all", "needed"):
            for given, means in groups.get(group, {}).items():
                low, high = (100 * each for each in means["M_J interval"])
                cells = [split, f"{group}, {means['clips']}", given, f"{100 * means['M_J']:.1f} ({low:.1f}-{high:.1f})"]
                cells.append("" if means["M_F"] is None else f"{100 * means['M_F']:.1f}")
                theirs = paper.FIGURE_1.get(given) if (split, group) == ("seen", "all") else None
                cells += [f"{means['empty']:.0%}", "" if theirs is None else f"{theirs[0]:.2f}"]
                lines.append(_line(cells))
    return "\n".join(lines)


def _hours(seconds: Mapping[str, Sequence[float]]) -> float:
    return sum(FULL_STEPS / 2 * float(np.median(each)) for each in seconds.values()) / 3600


def _share(interval: Sequence[float]) -> str:
    mean, low, high = (100 * each for each in interval)
    return f"{mean:.1f} ({low:.1f}-{high:.1f})"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
