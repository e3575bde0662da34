"""The table of a run of `make bench-segment`."""

from typing import Any


def markdown(record: dict[str, Any]) -> str:
    """Write the medians of both ways, the client's CPU by step, and the conditions."""
    lines = [
        "| `segment` | frames/s | generator's best | ratio | CPU of the client, ms a frame | peak memory, MB |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for way, found in record["medians"].items():
        lines.append(
            f"| {way} | {found['frames_per_s']:.1f} | {found['generator']:.1f} | {found['ratio']:.2f} |"
            f" {found['cpu_ms']:.1f} | {found['peak_mb']:.0f} |"
        )
    steps = ", ".join(f"{name} {value:.1f}" for name, value in record["steps_ms"].items())
    loads = [row["load_average"] for row in record["rows"]]
    lines += [
        "",
        f"CPU by step alone, ms a frame: {steps}.",
        "",
        f"`{record['build']}`, {record['video']}, one frame a second; medians of {len(loads) // 2} turns;"
        f" {record['machine']}, shared by server and client; load average {min(loads):.1f} to {max(loads):.1f}."
        f" {record['note']}".rstrip(),
    ]
    return "\n".join(lines)
