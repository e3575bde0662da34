"""The server's own counters, read from its Prometheus page, and what they say about the time in each stage."""

import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, fields

from auralsam2_client.contract import ENSEMBLE, SESSION_SUFFIX
from auralsam2_client.errors import ServerFault, ServerUnavailable

FEATURES_SUFFIX = "_features"

_SAMPLE = re.compile(r"^(?P<name>[A-Za-z_:][\w:]*)(?:\{(?P<labels>[^}]*)\})?\s+(?P<value>\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
# Loopback is asked directly, whatever proxy the environment names.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))

_COUNTERS = {
    "nv_inference_request_success": "success",
    "nv_inference_request_failure": "failure",
    "nv_inference_request_duration_us": "request_us",
    "nv_inference_queue_duration_us": "queue_us",
    "nv_inference_compute_input_duration_us": "input_us",
    "nv_inference_compute_infer_duration_us": "infer_us",
    "nv_inference_compute_output_duration_us": "output_us",
    "nv_inference_pending_request_count": "pending",
}


@dataclass(frozen=True)
class ModelCounters:
    """Sums since the server's start, over all versions of a model and all reasons of failure; `pending` is of now."""

    success: int = 0
    failure: int = 0
    request_us: int = 0
    queue_us: int = 0
    input_us: int = 0
    infer_us: int = 0
    output_us: int = 0
    pending: int = 0


@dataclass(frozen=True)
class StageTime:
    """Milliseconds a request, averaged over the requests that a model answered between two readings."""

    num_requests: int
    total_ms: float
    queue_ms: float
    input_ms: float
    infer_ms: float
    output_ms: float


def fetch(url: str = "http://127.0.0.1:8002/metrics", *, timeout_s: float = 5.0) -> dict[str, ModelCounters]:
    """Read the counters of every model.

    Raises: ServerUnavailable when the page cannot be read, ServerFault when it is not understood.
    """
    return parse(read_page(url, timeout_s=timeout_s))


def read_page(url: str, *, timeout_s: float = 5.0) -> str:
    """Read the text of a metrics page. Raises: ServerUnavailable when it cannot be read."""
    try:
        with _OPENER.open(url, timeout=timeout_s) as reply:
            text: str = reply.read().decode()
    except OSError as error:  # URLError and a timeout are both kinds of it
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise ServerUnavailable(f"No metrics at {url}: {reason}. Is the server running, with this port?") from error
    return text


def total(text: str, name: str) -> float:
    """Add up all samples of a metric on a page; 0 where there is none."""
    return sum(
        float(match["value"]) for match in map(_SAMPLE.match, text.splitlines()) if match and match["name"] == name
    )


def parse(text: str) -> dict[str, ModelCounters]:
    """Parse the text of a metrics page into counters by model. Other lines are left out."""
    sums: dict[str, dict[str, int]] = {}
    for line in text.splitlines():
        match = _SAMPLE.match(line)
        field = _COUNTERS.get(match["name"]) if match else None
        if match is None or field is None:
            continue
        model = dict(_LABEL.findall(match["labels"] or "")).get("model")
        try:
            value = int(float(match["value"]))
        except (ValueError, OverflowError) as error:
            raise ServerFault(
                f"The metrics page says {line!r}, which is no number. Is this port the server's?"
            ) from error
        if model is not None:
            counters = sums.setdefault(model, {})
            counters[field] = counters.get(field, 0) + value
    return {model: ModelCounters(**counters) for model, counters in sums.items()}


def in_flight(counters: Mapping[str, ModelCounters], ensemble: str = ENSEMBLE) -> int:
    """Count the clips that have passed or are waiting for a stage, and are not answered yet.

    The server has no gauge for this. A clip that is being computed in the very first stage does not show; a call that
    went to a stage directly, not through the ensemble, looks like a clip that never ends.
    """
    # A session takes its clip through an ensemble of its own, once; its later rounds reach no stage.
    entries = [counters.get(name, ModelCounters()) for name in (ensemble, ensemble + FEATURES_SUFFIX)]
    answered = sum(entry.success + entry.failure for entry in entries)
    stages = [stage for name, stage in counters.items() if not name.startswith(ensemble)]
    passed = max((stage.success + stage.failure for stage in stages), default=0)
    waiting = sum(stage.pending for stage in stages) + waiting_rounds(counters, ensemble)
    return max(0, passed - answered, waiting)


def waiting_rounds(counters: Mapping[str, ModelCounters], ensemble: str = ENSEMBLE) -> int:
    """Count the rounds of sessions that wait for the one before them."""
    return counters.get(ensemble + SESSION_SUFFIX, ModelCounters()).pending


def stage_times(before: Mapping[str, ModelCounters], after: Mapping[str, ModelCounters]) -> dict[str, StageTime]:
    """Average the milliseconds a request took in each model between two readings; idle models are left out.

    A counter that went backwards means that the server was restarted in between: then all of `after` counts.
    """
    times = {}
    for model, late in after.items():
        early = before.get(model, ModelCounters())
        if any(
            getattr(late, item.name) < getattr(early, item.name)
            for item in fields(ModelCounters)
            if item.name != "pending"
        ):
            early = ModelCounters()
        num_requests = late.success - early.success
        if num_requests > 0:
            total, queue, given, infer, output = (
                (getattr(late, name) - getattr(early, name)) / num_requests / 1e3
                for name in ("request_us", "queue_us", "input_us", "infer_us", "output_us")
            )
            times[model] = StageTime(num_requests, total, queue, given, infer, output)
    return times
