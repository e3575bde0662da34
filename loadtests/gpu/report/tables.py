"""What the bench shows: tables in Markdown, with the card, its speeds, and why a row has no figure."""

from collections.abc import Mapping, Sequence
from typing import Any

from loadtests.gpu.planning.jobs import KERNELS_ROW, READY_ROW, STAGES_ROW, Job
from loadtests.gpu.planning.records import REASON, Record

IOU_EXPECTED = 0.995
"""Of the masks of every row with those of eager float32."""
FORMS = ("eager", "Inductor", "FlexAttention", "ours")
Rows = Mapping[str, Record]


def card_sentence(found: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    power = found.get("power_limit_w")
    limit = "" if power in (None, "unknown") else f", power limit {power} W"
    return f"{found['card']}, driver {found['driver']}, CUDA {found['cuda']}{limit}; {versions}"


def clocks_sentence(clocks: Sequence[Mapping[str, str]]) -> str:
    """Say between which clocks the card worked, one reading after each job; empty where nothing was read."""
    read = [reading for reading in clocks if "clocks.sm" in reading]
    if not read:
        return "Clocks were not read: nvidia-smi is missing or silent."
    speeds = sorted(int(reading["clocks.sm"]) for reading in read)
    most = read[0].get("clocks.max.sm", "?")
    return f"Clocks read after each job: {speeds[0]} to {speeds[-1]} MHz of at most {most} MHz."


def markdown(jobs: Sequence[Job], rows: Rows, about: Mapping[str, Any]) -> str:
    """Write the page.

    Args:
        jobs: what was planned, whose order the tables follow.
        rows: by `Job.key`.
        about: "card" of `card.describe`, "commit", "clocks", "seconds" that the run took.
    """
    parts = [
        f"# On {about['card']['card']}",
        f"{card_sentence(about['card'])}. Code {about['commit']}. {clocks_sentence(about['clocks'])}",
        _network(jobs, rows),
        _operators(jobs, rows),
        _service(jobs, rows),
        _stages(jobs, rows),
        _left_out(jobs, rows),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def rows_with_figures(jobs: Sequence[Job], rows: Rows, kinds: Sequence[str]) -> list[tuple[Job, str, Record]]:
    """List the rows of some kinds of jobs that have figures, in the order of the plan."""
    found = []
    for job in jobs:
        for row in job.rows if job.kind in kinds else ():
            record = rows.get(job.key(row))
            if record is not None and REASON not in record:
                found.append((job, row, record))
    return found


def _table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    marks = ["---" if head[0].islower() and not head.endswith("*") else "---:" for head in heads]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in ([h.rstrip("*") for h in heads], marks, *lines))


def _case(job: Job) -> str:
    return f"`{job.case.preset}`, {job.case.image_size} px, T = {job.case.num_frames}"


def _or_nothing(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _network(jobs: Sequence[Job], rows: Rows) -> str:
    lines = []
    for job, row, record in rows_with_figures(jobs, rows, ("network", "compiled")):
        peak = record["peak_bytes"]
        lines.append(
            [
                _case(job),
                row + (" (beside the compiled form)" if job.kind == "compiled" and row == job.rows[0] else ""),
                f"{record['median_ms']:.2f} ({record['p20_ms']:.2f}-{record['p80_ms']:.2f})",
                f"{record['frames_per_s']:.1f}",
                _or_nothing(None if peak is None else peak / 1e9, ".2f"),
                f"{record['ready_s']:.1f}",
                _or_nothing(record["mask_iou"], ".4f"),
            ]
        )
    if not lines:
        return ""
    heads = ("network", "way", "ms a clip (p20-p80)*", "frames/s*", "memory, GB*", "s to ready*", "mask IoU*")
    low = [row for _, row, record in rows_with_figures(jobs, rows, ("network", "compiled")) if _too_far(record)]
    verdict = (
        f"**Not the same masks** as eager float32, IoU below {IOU_EXPECTED}: {'; '.join(low)}."
        if low
        else f"Masks of every row agree with eager float32 by an IoU of {IOU_EXPECTED} or more."
    )
    return f"## A clip\n\n{_table(heads, lines)}\n\n{verdict}"


def _too_far(record: Record) -> bool:
    return record["mask_iou"] is not None and record["mask_iou"] < IOU_EXPECTED


def _operators(jobs: Sequence[Job], rows: Rows) -> str:
    lines, kernels, speeds = [], [], []
    for _, row, record in rows_with_figures(jobs, rows, ("kernels",)):
        if "us" not in record:
            product, copy = record["gemm_flop_per_s"] / 1e12, record["copy_bytes_per_s"] / 1e12
            speeds.append(
                f"In {record['precision']}, one product of {record['gemm_side']} cubed reached {product:.0f} TFLOP/s,"
                f" a copy {copy:.2f} TB/s read and written."
            )
            continue
        cells = [_or_nothing(record["us"].get(form, {}).get("median"), ".1f") for form in FORMS]
        shares = [_or_nothing(record.get(share), ".0%") for share in ("gemm_share", "copy_share")]
        floors = max(record["gemm_floor_us"], record["copy_floor_us"])
        lines.append([row, *cells, f"{floors:.1f}", *shares])
        kernels += [
            [row, f"`{k['kernel']}`", str(k["launches"]), f"{k['us']:.1f}", _or_nothing(k.get("copy_share"), ".0%")]
            for k in record["kernels"]
        ]
    if not lines:
        return "\n".join(speeds)
    heads = ("operator", *(f"{form}, us*" for form in FORMS), "floor, us*", "of the product's speed*", "of the copy's*")
    text = f"## The fused operators, each in a graph\n\n{_table(heads, lines)}\n\n{' '.join(speeds)}"
    if kernels:
        own = ("operator", "kernel", "launches*", "us*", "of the copy's speed*")
        text += f"\n\n{_table(own, kernels)}"
    return text


def _service(jobs: Sequence[Job], rows: Rows) -> str:
    lines, starts = [], []
    for _, row, record in rows_with_figures(jobs, rows, ("service",)):
        if row == READY_ROW:
            second, memory = record.get("second_start_s"), record.get("card_memory_mib")
            starts.append(
                f"Exported in {record['export_s']:.0f} s, ready {record['first_start_s']:.0f} s after the first start"
                + ("" if second is None else f", {second:.0f} s after the second")
                + ("" if memory is None else f"; the card held {memory / 1024:.1f} GiB more")
                + f"; {record['precision']}."
            )
            continue
        lines.append(
            [
                row,
                f"{record['frames_per_s']:.1f}",
                f"{record['median_ms']:.0f} ({record['p20_ms']:.0f}-{record['p80_ms']:.0f})",
                f"{record['p95_ms']:.0f}",
                str(record["failures"]),
                f"{record['mask_iou']:.4f}",
            ]
        )
    heads = ("service", "frames/s*", "ms a clip (p20-p80)*", "p95*", "failures*", "mask IoU*")
    table = [_table(heads, lines)] if lines else []
    return "## The service, gRPC on loopback\n\n" + "\n\n".join([*table, *starts]) if table or starts else ""


def _stages(jobs: Sequence[Job], rows: Rows) -> str:
    text = ""
    for job, row, record in rows_with_figures(jobs, rows, ("stages",)):
        if row == STAGES_ROW:
            lines = [
                [
                    name,
                    f"{stage['median_ms']:.2f} ({stage['p20_ms']:.2f}-{stage['p80_ms']:.2f})",
                    _or_nothing(stage["launches"], "d"),
                    f"{stage['gflop']:.0f}",
                    f"{stage['gbytes']:.1f}",
                    f"{stage['gemm_share']:.0%}",
                    f"{stage['copy_share']:.0%}",
                ]
                for name, stage in record["stages"].items()
            ]
            heads = ("stage", "ms*", "launches*", "GFLOP*", "GB*", "of the product's speed*", "of the copy's*")
            text += f"## Where a clip's time goes: {_case(job)}, {record['precision']}\n\n{_table(heads, lines)}\n\n"
            text += "GFLOP and GB are counted operator by operator, each input and output once.\n\n"
        elif row == KERNELS_ROW:
            total = record["total_us"]
            lines = [
                [
                    k["stage"],
                    f"`{k['kernel']}`",
                    str(k["launches"]),
                    f"{k['us']:.0f}",
                    f"{k['us'] / total:.1%}",
                ]
                for k in record["kernels"]
            ]
            text += _table(("stage", "kernel", "launches*", "us*", "of all kernels*"), lines)
    return text.rstrip()


def _left_out(jobs: Sequence[Job], rows: Rows) -> str:
    """Name what has no figure, and why; rows with one reason together."""
    reasons: dict[str, list[str]] = {}
    for job in jobs:
        for row in job.rows:
            record = rows.get(job.key(row))
            if record is None or REASON in record:
                why = "not asked for" if record is None else record[REASON]
                reasons.setdefault(why, []).append(f"{row} ({_case(job)})")
            for form, why in (record or {}).get("left_out", {}).items():
                reasons.setdefault(why, []).append(f"{row}: {form}")
    if not reasons:
        return ""
    return "## Not run\n\n" + "\n".join(f"- {'; '.join(names)}: {why}" for why, names in reasons.items())
