"""What a run of the generator says: rates, percentiles, errors by code, and the machine it was on."""

import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from loadtests.generator.sender import OK, Outcome

PERCENTILES = (50, 95, 99)


@dataclass(frozen=True)
class Summary:
    """Over the requests that were due after the warm-up. Latencies are of answered clips, in milliseconds."""

    seconds: float
    offered_clips_per_s: float  # due
    achieved_clips_per_s: float  # sent and ended, however
    answered_clips_per_s: float
    frames_per_s: float
    latency_ms: dict[str, float]  # from the time at which a clip was due
    answer_ms: dict[str, float]  # from the time at which it was sent
    refusal_ms: dict[str, float]  # the same, of UNAVAILABLE
    by_code: dict[str, int]
    first_request_ms: float
    num_requests: int

    def record(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def summarise(outcomes: Sequence[Outcome], num_frames: int, duration_s: float, warm_up_s: float = 0.0) -> Summary:
    """Compute rates and percentiles of a run that offered load for `duration_s`.

    Rates count what ended between the end of the warm-up and the end of the offered time; codes and percentiles are of
    all that was due in it, those included that ended later.
    """
    if not outcomes:
        return Summary(0, 0, 0, 0, 0, {}, {}, {}, {}, 0, 0)
    start = min(outcome.due_s for outcome in outcomes)
    begin, end = start + warm_up_s, start + duration_s
    due = [outcome for outcome in outcomes if begin <= outcome.due_s < end]
    ended = [outcome for outcome in outcomes if begin <= outcome.done_s < end]
    seconds = end - begin
    answered = sum(outcome.code == OK for outcome in ended) / seconds
    good = [outcome for outcome in due if outcome.code == OK]
    refused = [outcome for outcome in due if outcome.code == "UNAVAILABLE"]
    first = min(outcomes, key=lambda outcome: outcome.sent_s)
    return Summary(
        seconds=seconds,
        offered_clips_per_s=len(due) / seconds,
        achieved_clips_per_s=len(ended) / seconds,
        answered_clips_per_s=answered,
        frames_per_s=answered * num_frames,
        latency_ms=percentiles([outcome.latency_s for outcome in good]),
        answer_ms=percentiles([outcome.answer_s for outcome in good]),
        refusal_ms=percentiles([outcome.answer_s for outcome in refused]),
        by_code=dict(Counter(outcome.code for outcome in due)),
        first_request_ms=1e3 * first.answer_s,
        num_requests=len(due),
    )


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Compute milliseconds by name: p50, p95, p99, max; empty without values."""
    if not seconds:
        return {}
    values = {f"p{q}": 1e3 * float(np.percentile(seconds, q)) for q in PERCENTILES}
    return values | {"max": 1e3 * max(seconds)}


def machine() -> dict[str, Any]:
    """Describe the machine that a figure was measured on."""
    return {
        "cpu": _cpu_model(),
        "cores": len(psutil.Process().cpu_affinity()),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "vector_units": [name for name in ("avx2", "avx512f", "amx_tile") if name in _cpu_flags()],
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "versions": {"python": platform.python_version()}
        | {name: _version(name) for name in ("openvino", "tritonclient", "grpcio", "locust", "torch")},
    }


def machine_sentence(found: dict[str, Any]) -> str:
    units = ", ".join(found["vector_units"]).upper()
    return f"{found['cores']} cores of {found['cpu']} ({units}), {found['memory_gb']:.0f} GB"


def _cpu_info(field: str) -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == field:
            return value.strip()
    return ""


def _cpu_model() -> str:
    return _cpu_info("model name") or platform.processor() or platform.machine()


def _cpu_flags() -> set[str]:
    return set(_cpu_info("flags").split())


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
