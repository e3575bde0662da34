"""The figures of the wire as Markdown."""

from typing import Any


def markdown(record: dict[str, Any]) -> str:
    """Write the tables of one run: by build, way, size and callers, and a build beside its graphs."""
    lines = [
        "| build | way | px | callers | MB in / out | client, ms | wire, ms | server, ms | beside stages, ms"
        " | p50 / p95, ms | clips/s |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in record["rows"]:
        size = f"{row['bytes_in'] / 1e6:.2f} / {row['bytes_out'] / 1e6:.3f}"
        parts = " | ".join(f"{row[part]:.1f}" for part in ("client_ms", "wire_ms", "server_ms", "beside_ms"))
        lines.append(
            f"| `{row['build']}` | {row['way']} | {row['image_size']} | {row['callers']} | {size} | {parts} |"
            f" {row['p50_ms']:.1f} / {row['p95_ms']:.1f} | {row['clips_per_s']:.1f} |"
        )
    lines += [
        "",
        "Stages of `instant` builds answer at once, so that the wire alone is seen; beside them: wire and server less"
        " what they took.",
    ]
    if record["beside_graphs"]:
        lines += [
            "",
            "One caller, in turns with the build's graphs in one process:",
            "",
            "| build | way | ms a clip, p50 / p95 | graphs alone, p50 | ratio |",
            "|---|---|---:|---:|---:|",
        ]
        for row in record["beside_graphs"]:
            lines.append(
                f"| `{row['build']}` | {row['way']} | {row['p50_ms']:.1f} / {row['p95_ms']:.1f} |"
                f" {row['graphs_p50_ms']:.1f} | {row['ratio']:.3f} |"
            )
    lines += ["", f"{record['machine']}; load average {record['load_average']:.1f} at the start; loopback."]
    lines[-1] += f" Clips of {record['num_frames']} frames, each caller {record['for_s']:g} s after a warm-up."
    lines += [f"Left out: {name}: {reason}." for name, reason in record["left_out"].items()]
    return "\n".join(lines)
