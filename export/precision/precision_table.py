"""The precision report as Markdown: one table of what leaves the service, one of every stage's outputs."""

from collections.abc import Mapping, Sequence
from typing import Any

HOW = (
    "Emulated on the CPU: sums in float32, every narrow tensor rounded where an engine would keep it; engines that fuse"
    " round less often. Reference: the network in PyTorch, float32. Cells: max abs error / RMS error, and the latter as"
    " a share of the reference's RMS."
)


def markdown(record: Mapping[str, Any]) -> str:
    """Write the tables of a precision report. record: as `PrecisionReport.as_record` gives it."""
    figures: Sequence[Mapping[str, Any]] = record["figures"]
    lines = [f"# Precision: {record['name']}", "", record["weights"], "", HOW, "", *_summary(record, figures), ""]
    precisions = [str(each["precision"]) for each in figures]
    lines += [_row("stage", "output", *precisions), _rule(2, len(precisions))]
    for rows in zip(*(each["stages"] for each in figures), strict=True):
        lines.append(_row(rows[0]["stage"], rows[0]["output"], *map(_cell, rows)))
    for rows in zip(*(each["chain"] for each in figures), strict=True):
        lines.append(_row("whole chain", rows[0]["output"], *map(_cell, rows)))
    return "\n".join(lines) + "\n"


def _summary(record: Mapping[str, Any], figures: Sequence[Mapping[str, Any]]) -> list[str]:
    """The masks that leave the chain, and what they score."""
    heads = ["precision", "nodes narrow / float32 / casts", "masks' IoU with the network's, one clip"]
    if record["not_scored"] is None:
        heads += [f"masks' IoU with float32's, {record['num_clips']} clips", "M_J", "M_J with object"]
    lines = [_row(*heads), _rule(1, len(heads) - 1)]
    for each in figures:
        counts = [sum(cast[kind] for cast in each["casts"].values()) for kind in ("narrow", "wide", "casts")]
        (masks,) = (row["mask_iou"] for row in each["chain"] if row["output"] == "MASK_LOGITS")
        cells = [each["precision"], " / ".join(map(str, counts)) if each["casts"] else "-", f"{masks:.4f}"]
        if each["score"] is not None:
            score = each["score"]
            cells += [_number(each["score_mask_iou"]), _number(score["mean_jaccard"])]
            cells.append(_number(score["mean_jaccard_with_object"]))
        lines.append(_row(*cells))
    if record["not_scored"] is not None:
        lines += ["", f"No M_J: {record['not_scored']}."]
    return lines


def _cell(row: Mapping[str, Any]) -> str:
    if row["max_abs"] is None:
        return "not finite"
    agreement = "" if row["mask_iou"] is None else f", masks' IoU {row['mask_iou']:.4f}"
    return f"{row['max_abs']:.1e} / {row['rms']:.1e} ({row['relative_rms']:.1e}){agreement}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def _rule(left: int, right: int) -> str:
    return "|" + "---|" * left + "---:|" * right
