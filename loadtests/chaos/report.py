"""The table of a run of faults."""

from typing import Any

MAX_GROWTH = 1.05
# Sockets of callers come and go.
SPARE_FILES = 8


def holds(row: dict[str, Any]) -> bool:
    """Tell whether a fault left the service as it was."""
    return (
        row["wrong"] == 0
        and bool(row["same_bytes"])
        and row["memory"][1] <= MAX_GROWTH * row["memory"][0]
        and row["files"][1] <= MAX_GROWTH * row["files"][0] + SPARE_FILES
    )


def markdown(record: dict[str, Any]) -> str:
    """Write the table of a record, and what was lost."""
    lines = ["| fault | answered | ended otherwise | without answers, s | memory | files | holds |"]
    lines.append("|---|---:|---|---:|---:|---:|---|")
    for row in record["faults"]:
        others = ", ".join(f"{count} {code}" for code, count in row["by_code"].items() if code != "OK") or "none"
        memory, files = (after / before - 1 if before else 0 for before, after in (row["memory"], row["files"]))
        lines.append(
            f"| {row['name']} | {row['by_code'].get('OK', 0)} | {others} | {row['silence_s']:.1f} | {memory:+.1%} |"
            f" {files:+.1%} | {'yes' if holds(row) else '**no**'} |"
        )
    lines += [
        "",
        f"`{record['build']}`, seed {record['seed']}: {record['num_sent']} requests, {record['num_lost']} lost",
    ]
    lines[-1] += f" or doubled. Log: {record['log_bytes'] / 1e6:.1f} MB."
    return "\n".join(lines)
