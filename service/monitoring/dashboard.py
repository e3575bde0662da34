"""The Grafana dashboard, as a table of panels. `python -m service.monitoring.dashboard` writes dashboard.json.

Grafana replaces $__rate_interval by a span that fits the zoom; every query here is also run against a real Prometheus
in the tests. Needs grafana-foundation-sdk (`requirements/load.txt`).
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.builders import dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DataSourceRef

from auralsam2_client.contract import Reason

PATH = Path(__file__).with_name("dashboard.json")
# Whatever the Prometheus of a Grafana is called: a person chooses it at the top of the dashboard.
SOURCE_NAME = "datasource"
SOURCE = DataSourceRef(type_val="prometheus", uid=f"${{{SOURCE_NAME}}}")
HEIGHT, WIDTH = 8, 12
_FAILED = f'reason=~"{"|".join((Reason.QUEUE_FULL, Reason.DEADLINE, Reason.EXPIRED, Reason.FAULT))}"'


@dataclass(frozen=True)
class Plot:
    """One panel: its curves as (query, legend), its unit in Grafana's words. `single` shows a number."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    single: bool = False


def _quantiles(metric: str) -> tuple[tuple[str, str], ...]:
    return tuple(
        (f"histogram_quantile({q / 100}, sum by (le) (rate({metric}_bucket[$__rate_interval])))", f"p{q}")
        for q in (50, 95, 99)
    )


ROWS: tuple[tuple[str, tuple[Plot, ...]], ...] = (
    (
        "Now",
        (
            Plot("Frames per second, last 10 s", "none", (("sum(auralsam2_frames_per_second)", ""),), single=True),
            Plot("Servers ready", "none", (("sum(auralsam2_ready)", ""),), single=True),
            Plot("Places taken in the chain", "percentunit", (("auralsam2:saturation:ratio1m", ""),), single=True),
            Plot(
                "Served",
                "none",
                (
                    (
                        "auralsam2_build_info",
                        "{{build}}, {{engine}} {{precision}}. {{weights}}",
                    ),
                ),
                single=True,
            ),
        ),
    ),
    (
        "Throughput and latency",
        (
            Plot(
                "Frames per second",
                "none",
                (
                    ("sum by (prompts) (rate(auralsam2_frames_total[$__rate_interval]))", "{{prompts}}"),
                    ("auralsam2:frames_under_load:mean1d", "mean of the last day's minutes with clips waiting"),
                ),
            ),
            Plot(
                "Clips per second",
                "none",
                (
                    ("sum by (prompts) (rate(auralsam2_clips_total[$__rate_interval]))", "answered, {{prompts}}"),
                    ("sum by (reason) (rate(auralsam2_rejected_total[$__rate_interval]))", "not answered, {{reason}}"),
                ),
            ),
            Plot("Clip, from admission to answer", "s", _quantiles("auralsam2_clip_duration_seconds")),
            Plot(
                "Seconds of sound heard a second",
                "none",
                (
                    ("sum(rate(auralsam2_audio_seconds_total[$__rate_interval]))", "heard"),
                    ("0.975 * sum(rate(auralsam2_silent_windows_total[$__rate_interval]))", "silent"),
                ),
            ),
        ),
    ),
    (
        "Stages",
        (
            Plot(
                "Compute, mean",
                "s",
                (
                    (
                        "sum by (stage) (rate(auralsam2_stage_duration_seconds_sum[$__rate_interval]))"
                        " / sum by (stage) (rate(auralsam2_stage_duration_seconds_count[$__rate_interval]))",
                        "{{stage}}",
                    ),
                ),
            ),
            Plot("Compute, p95", "s", (("auralsam2:stage_duration_seconds:p95_5m", "{{stage}}"),)),
            Plot("Wait before a stage, mean", "s", (("auralsam2:queue_duration_seconds:mean1m", "{{stage}}"),)),
            Plot(
                "Share of time that a stage computes", "percentunit", (("auralsam2:stage_busy:ratio1m", "{{model}}"),)
            ),
            Plot(
                "Queue by the server's own clock",
                "s",
                (
                    (
                        "sum by (model) (rate(nv_inference_queue_duration_us[$__rate_interval])) / 1e6"
                        " / (sum by (model) (rate(nv_inference_request_success[$__rate_interval])) > 0)",
                        "{{model}}",
                    ),
                ),
            ),
        ),
    ),
    (
        "Trouble",
        (
            Plot("Degraded", "none", (("auralsam2_degraded", "{{instance}}"),)),
            Plot("Share of clips that failed, 5 min", "percentunit", (("auralsam2:errors:ratio5m", "failed"),)),
            Plot(
                "Refused and given up",
                "none",
                (
                    (
                        f"sum by (stage, reason) (rate(auralsam2_rejected_total{{{_FAILED}}}[$__rate_interval]))",
                        "{{stage}}, {{reason}}",
                    ),
                ),
            ),
            Plot(
                "Clips in flight",
                "none",
                (("sum(auralsam2_clips_in_flight)", "now"), ("sum(auralsam2_clips_in_flight_limit)", "limit")),
            ),
            Plot("Interactive sessions", "none", (("sum(auralsam2_sessions)", "kept"),)),
            Plot("Restarts", "none", (("sum by (reason) (auralsam2_restarts_total)", "{{reason}}"),)),
            Plot(
                "Golden answers that were wrong or did not come",
                "none",
                (
                    (
                        'sum by (path, result) (increase(auralsam2_golden_answers_total{result!="right"}[15m]))',
                        "{{path}}, {{result}}",
                    ),
                ),
            ),
            Plot(
                "Frames decoded on the host, of files for a card",
                "none",
                (
                    (
                        "sum by (reason) (rate(auralsam2_host_decoded_frames_total[$__rate_interval])) or vector(0)",
                        "{{reason}}",
                    ),
                ),
            ),
        ),
    ),
    (
        "Machine",
        (
            Plot(
                "Resident memory",
                "bytes",
                (
                    ("sum by (process) (auralsam2_memory_bytes)", "{{process}}"),
                    ("sum(auralsam2_shared_memory_bytes)", "shared memory of the stages"),
                    ("sum(auralsam2_session_bytes)", "held by sessions"),
                ),
            ),
            Plot("Open files", "none", (("sum by (process) (auralsam2_open_files)", "{{process}}"),)),
            Plot("CPU", "percentunit", (("avg(nv_cpu_utilization)", "of the machine"),)),
            Plot("Golden clips a minute", "none", (("60 * sum(rate(auralsam2_golden_clips_total[5m]))", "answered"),)),
        ),
    ),
)


def queries() -> list[tuple[str, str]]:
    """List (panel, query) for everything on the dashboard."""
    return [(plot.title, query) for _, plots in ROWS for plot in plots for query, _ in plot.queries]


def dashboard_json() -> str:
    """Write the dashboard as the JSON that Grafana reads from a file."""
    made = (
        dashboard.Dashboard("AuralSAM2")
        .uid("auralsam2")
        .tags(["auralsam2"])
        .refresh("5s")
        .time("now-15m", "now")
        .timezone("browser")
        .with_variable(dashboard.DatasourceVariable(SOURCE_NAME).type("prometheus").label("Prometheus"))
    )
    for name, plots in ROWS:
        made = made.with_row(dashboard.Row(name))
        for plot in plots:
            made = made.with_panel(_panel(plot))
    record = _without_nulls(json.loads(JSONEncoder().encode(made.build())))
    return json.dumps(record, sort_keys=True, indent=1) + "\n"


def _without_nulls(value: Any) -> Any:
    """What the library leaves open is left out, so that Grafana fills in its own defaults."""
    if isinstance(value, dict):
        return {name: _without_nulls(item) for name, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _panel(plot: Plot) -> stat.Panel | timeseries.Panel:
    panel: stat.Panel | timeseries.Panel
    if plot.single:
        panel = stat.Panel().span(WIDTH // 2).height(HEIGHT // 2)
    else:
        panel = timeseries.Panel().span(WIDTH).height(HEIGHT).min(0)
    panel = panel.title(plot.title).unit(plot.unit).datasource(SOURCE)
    for number, (query, legend) in enumerate(plot.queries):
        target = prometheus.Dataquery().ref_id(chr(ord("A") + number)).expr(query)
        panel = panel.with_target(target.legend_format(legend) if legend else target)
    return panel


def main(arguments: Sequence[str] = ()) -> int:
    """Write dashboard.json beside this module."""
    PATH.write_text(dashboard_json())
    print(f"wrote {PATH.name}: {len(queries())} queries")
    return 0


if __name__ == "__main__":
    sys.exit(main())
