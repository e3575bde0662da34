"""The table of a run of faults, and whether all of it holds."""

from typing import Any

MAX_GROWTH = 1.05
# Sockets of callers come and go.
SPARE_FILES = 8
MAX_LOG_BYTES = 20e6


def holds(row: dict[str, Any]) -> bool:
    """Tell whether a fault left the service as it was."""
    answered = row["by_code"].get("OK", 0) >= row["least_answered"] * sum(row["by_code"].values())
    return row["wrong"] == 0 and bool(row["same_bytes"]) and is_back(row) and answered


def is_back(grown: dict[str, Any]) -> bool:
    """Tell whether memory and open files are what they were before, within 5 %."""
    return bool(
        grown["memory"][1] <= MAX_GROWTH * grown["memory"][0]
        and grown["files"][1] <= MAX_GROWTH * grown["files"][0] + SPARE_FILES
    )


def all_holds(record: dict[str, Any]) -> bool:
    """Tell whether nothing was lost, wrong, left behind or grown, of each fault and of the whole."""
    return record["log_bytes"] <= MAX_LOG_BYTES and all(
        not (run["broken"] or run["num_lost"] or run["num_wrong"] or run["left"])
        and is_back(run)
        and all(map(holds, run["faults"]))
        for run in record["runs"]
    )


def markdown(record: dict[str, Any]) -> str:
    """Write the tables of a record, and what was lost, left and grown."""
    lines = [f"`{record['build']}`, seed {record['seed']}; log {record['log_bytes'] / 1e6:.1f} MB."]
    for run in record["runs"]:
        lines += ["", *_of_run(run)]
    return "\n".join(lines)


def _of_run(run: dict[str, Any]) -> list[str]:
    where = "behind a front door" if run["door"] == "on" else "without a front door"
    memory, files = (_growth(run[name]) for name in ("memory", "files"))
    lines = [
        f"**{where.capitalize()}**: {run['num_sent']} requests, {run['num_answered']} answered,"
        f" {run['num_wrong']} wrong, {run['num_lost']} lost or doubled; memory {memory:+.1%}, open files {files:+.1%}"
        f" from the beginning to the end; {', '.join(run['left']) or 'nothing'} left behind."
    ]
    if run["broken"]:
        lines.append(f"It broke off: {run['broken']}")
    lines += ["", "| fault | answered | ended otherwise | longest without an answer, s | memory | files | holds |"]
    lines.append("|---|---:|---|---:|---:|---:|---|")
    for row in run["faults"]:
        others = ", ".join(f"{count} {code}" for code, count in row["by_code"].items() if code != "OK") or "none"
        lines.append(
            f"| {row['name']} | {row['by_code'].get('OK', 0)} | {others} | {row['silence_s']:.1f} |"
            f" {_growth(row['memory']):+.1%} | {_growth(row['files']):+.1%} | {'yes' if holds(row) else '**no**'} |"
        )
    return lines


def _growth(pair: list[float]) -> float:
    return pair[1] / pair[0] - 1 if pair[0] else 0.0
