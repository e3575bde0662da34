"""What a stage tells Prometheus, through the server's own metrics page. Names and units follow Prometheus' rules."""

from collections.abc import Mapping
from typing import Any

from auralsam2_client.contract import CLIPS_METRIC, FRAMES_METRIC, IN_FLIGHT_METRIC, ROUNDS_UNDER_WAY_METRIC

# Each about twice the one before; the last is a clip of the largest network on a small CPU.
SECONDS_BUCKETS = (
    0.001,
    0.002,
    0.005,
    0.01,
    0.02,
    0.05,
    0.1,
    0.2,
    0.5,
    1.0,
    2.0,
    5.0,
    10.0,
    20.0,
    60.0,
    120.0,
)
# kind, help; a stage makes those that it writes. Several stages may write one family: the server adds them up.
FAMILIES = {
    FRAMES_METRIC: ("COUNTER", "Frames of answered clips, counted in the last stage alone"),
    CLIPS_METRIC: ("COUNTER", "Answered clips, counted in the last stage alone"),
    "auralsam2_audio_seconds_total": ("COUNTER", "Seconds of sound that the frames of answered clips heard"),
    "auralsam2_silent_windows_total": ("COUNTER", "Windows of sound that were all zero"),
    "auralsam2_golden_clips_total": ("COUNTER", "Clips of the supervisor's own, which no other counter counts"),
    "auralsam2_rejected_total": ("COUNTER", "Clips that were refused or given up, by stage and reason"),
    "auralsam2_stage_duration_seconds": ("HISTOGRAM", "Time that a stage computed for one clip"),
    "auralsam2_queue_duration_seconds": ("HISTOGRAM", "Time between the stage before and this one"),
    "auralsam2_clip_duration_seconds": ("HISTOGRAM", "Time from a clip's admission to the end of its last stage"),
    "auralsam2_host_decoded_frames_total": ("COUNTER", "Files of frames that a card left to the CPU, by reason"),
    "auralsam2_session_rounds_total": ("COUNTER", "Answered rounds of interactive sessions"),
    "auralsam2_sessions": ("GAUGE", "Interactive sessions that are kept"),
    "auralsam2_session_bytes": ("GAUGE", "Memory that the kept sessions hold"),
    ROUNDS_UNDER_WAY_METRIC: ("GAUGE", "Rounds of interactive sessions that are computed now"),
    IN_FLIGHT_METRIC: ("GAUGE", "Clips that were admitted and are not answered yet"),
    "auralsam2_clips_in_flight_limit": ("GAUGE", "Clips that may be in flight at once"),
}


class Telemetry:
    """Metrics of one stage. Without a server that has the metrics API, or with metrics closed, it does nothing.

    Args:
        backend: `triton_python_backend_utils`, or what stands in for it.
        labels: what every sample of this stage carries.
    """

    def __init__(self, backend: Any, labels: Mapping[str, str]) -> None:
        self._kinds: Any = getattr(backend, "MetricFamily", None)
        self._labels = dict(labels)
        self._families: dict[str, Any] = {}
        self._metrics: dict[tuple[str, tuple[tuple[str, str], ...]], Any] = {}

    def count(self, name: str, amount: float = 1.0, **labels: str) -> None:
        metric = self._metric(name, labels)
        if metric is not None:
            metric.increment(amount)

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        metric = self._metric(name, labels)
        if metric is not None:
            metric.observe(seconds)

    def set(self, name: str, value: float, **labels: str) -> None:
        metric = self._metric(name, labels, bare=True)
        if metric is not None:
            metric.set(value)

    def _metric(self, name: str, labels: Mapping[str, str], *, bare: bool = False) -> Any:
        """The sample of a family; a gauge is `bare`, since several stages write the same one."""
        if self._kinds is None:
            return None
        wanted = dict(labels) if bare else {**self._labels, **labels}
        key = (name, tuple(sorted(wanted.items())))
        if key not in self._metrics:
            self._metrics[key] = self._made(name, wanted)
        return self._metrics[key]

    def _made(self, name: str, labels: dict[str, str]) -> Any:
        kind, description = FAMILIES[name]
        if name not in self._families:
            self._families[name] = self._kinds(name=name, description=description, kind=getattr(self._kinds, kind))
        # The family must live as long as its metrics.
        if kind == "HISTOGRAM":
            return self._families[name].Metric(labels=labels, buckets=list(SECONDS_BUCKETS))
        return self._families[name].Metric(labels=labels)
