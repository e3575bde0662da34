"""What the bench of a CPU shows: a table in Markdown, and where the time of a clip goes as a picture."""

import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from auralsam2_client.contract import STAGE_NAMES
from auralsam2_client.new_file import new_file

COLOURS = ("#4e79a7", "#59a14f", "#f28e2b", "#b07aa1")
PACKAGES = ("torch", "openvino", "numpy")
NO_FIGURE = ""


def machine() -> dict[str, Any]:
    """Describe the CPU: its own name, cores, which of the wide instructions, and the versions that count."""
    cpu = flags = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            cpu = value.strip()
        elif key.strip() == "flags":
            flags = value
            break
    wide = [name for name in ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_tile") if name in flags.split()]
    import psutil

    return {
        "cpu": cpu or platform.processor(),
        "cores": psutil.cpu_count(),
        "instructions": wide,
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "versions": {name: version(name) for name in PACKAGES},
    }


def machine_sentence(found: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    return (
        f"{found['cores']} cores of {found['cpu']} ({', '.join(found['instructions']) or 'no wide instructions'}),"
        f" {found['memory_gb']} GB; {versions}"
    )


def markdown(records: Sequence[dict[str, Any]], found: dict[str, Any]) -> str:
    """Tabulate case and way: medians, p20 to p80 in brackets; ratios are over the published form of the same row."""
    lines = [
        "| network, px, frames | way | s a clip (p20-p80) | frames/s | x published | Hiera, share of GEMM peak |"
        " memory, GB | mask IoU |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for record in records:
        label = f"`{record['preset']}`, {record['image_size']}, {record['num_frames']}"
        for name, way in record["ways"].items():
            share = way.get("hiera_share_of_peak")
            precision = f", {record['precision']}" if name.startswith("our ") else ""
            lines.append(
                f"| {label} | {name}{precision} | {way['median_s']:.2f} ({way['p20_s']:.2f}-{way['p80_s']:.2f}) |"
                f" {way['frames_per_s']:.2f} | {way['ratio']:.2f} |"
                f" {NO_FIGURE if share is None else f'{share:.0%}'} | {way['peak_bytes'] / 1e9:.1f} |"
                f" {way['mask_iou']:.4f} |"
            )
    lines += ["", f"{machine_sentence(found)}."]
    reasons = sorted({f"{name}: {why}" for record in records for name, why in record["left_out"].items()})
    peaks = [record["gemm_flops_per_s"] / 1e9 for record in records]
    repeats = sorted({record["repeats"] for record in records})
    lines.append(
        f"Medians of {', '.join(map(str, repeats))} clips a way, in turns within one run, warm-up left out. One float32"
        f" product of 2048 x 2048 reached {min(peaks):.0f} to {max(peaks):.0f} GFLOP/s."
    )
    starts = ", ".join(f"{record['case']} {record['second_start_s']:.0f} s" for record in records)
    lines.append(f"A second start of the server, from its command to ready: {starts}.")
    lines += [f"Left out: {reason}." for reason in reasons]
    return "\n".join(lines) + "\n"


def draw_waterfall(records: Sequence[dict[str, Any]], found: dict[str, Any], path: Path) -> None:
    """Draw the seconds of a clip by stage, a bar for each way that has stages, one panel a case."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 1.2 * len(records) + 1.1), dpi=110, layout="constrained")
    panels = figure.subplots(len(records), 1, squeeze=False)[:, 0]
    for axes, record in zip(panels, records, strict=True):
        ways = {name: way for name, way in record["ways"].items() if way["stages_s"]}
        left = [0.0] * len(ways)
        for stage, colour in zip(STAGE_NAMES, COLOURS, strict=True):
            seconds = [way["stages_s"][stage] for way in ways.values()]
            axes.barh(list(ways), seconds, left=left, color=colour, label=stage)
            left = [before + more for before, more in zip(left, seconds, strict=True)]
        for row, total in enumerate(left):
            axes.text(total, row, f" {total:.2f} s", va="center", fontsize=8)
        axes.invert_yaxis()
        axes.set_xlim(0, 1.12 * max(left))
        axes.set_title(
            f"{record['preset']}, {record['image_size']} px, {record['num_frames']} frames", fontsize=9, loc="left"
        )
        axes.tick_params(labelsize=8)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, ncols=len(STAGE_NAMES), fontsize=8, frameon=False, loc="outside upper center")
    figure.supxlabel(f"seconds a clip. {machine_sentence(found)}", fontsize=7)
    with new_file(path) as partial:
        figure.savefig(partial, format=path.suffix[1:])
