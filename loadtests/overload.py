"""Overload: how much the service bears, and what it does at twice that.

First the rate at which it saturates, by callers that wait in turn, as many as have a place in the chain. Then clips
are due at random times at that rate, and at twice that. What must hold is printed with what was measured, and decides
the exit code.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from auralsam2_client.contract import CLIPS_METRIC
from auralsam2_client.errors import AuralServeError
from auralsam2_client.new_file import write_new
from loadtests.generator.driving import Load, drive
from loadtests.generator.sender import OK, Outcome
from loadtests.reports.summary import Summary, machine, machine_sentence, summarise
from loadtests.run import account
from service.builds.manifest import read_manifest
from service.monitoring.metrics import read_page, total
from service.server.serving import serve_build

MIN_GOODPUT, MAX_P95, MAX_REFUSAL_MS = 0.95, 1.5, 100.0


@dataclass(frozen=True)
class Phase:
    """One rate: what was offered, what came of it, and what the server itself says that it answered."""

    name: str
    summary: Summary
    requests: dict[str, int]
    answered: int
    server_answered: int

    def record(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("name", "requests", "answered", "server_answered")} | {
            "summary": self.summary.record()
        }


@dataclass(frozen=True)
class Verdict:
    """One promise, and what was found."""

    promise: str
    found: str
    holds: bool


def measure(url: str, metrics_url: str, num_frames: int, out: Path, *, seconds: float, places: int) -> list[Phase]:
    """Run three phases against a server: saturation in a closed loop, then open loops of once and twice that.

    Args:
        seconds: of each phase, the first tenth of which is left out of its figures.
        places: callers of the closed loop.
    """

    def phase(name: str, load: Load) -> Phase:
        before = _read_successes(metrics_url)
        outcomes = drive(url, load, out, name=name)
        after = _read_successes(metrics_url)
        summary = summarise(outcomes, num_frames, seconds, seconds / 10)
        return Phase(name, summary, account(outcomes), _count_answers(outcomes), after - before)

    closed = phase("saturation", Load(seconds, users=places))
    rate = closed.summary.answered_clips_per_s
    return [closed, phase("once", Load(seconds, rate=rate)), phase("twice", Load(seconds, rate=2 * rate))]


def _read_successes(metrics_url: str) -> int:
    """Clips of callers that the last stage has answered, once that number stands still."""
    found = -1
    while found != (found := int(total(read_page(metrics_url), CLIPS_METRIC))):
        time.sleep(0.3)
    return found


def _count_answers(outcomes: Sequence[Outcome]) -> int:
    return sum(outcome.code == OK for outcome in outcomes)


def judge(phases: Sequence[Phase]) -> list[Verdict]:
    """Hold three phases against what is promised."""
    closed, once, twice = phases
    peak = max(closed.summary.answered_clips_per_s, once.summary.answered_clips_per_s)
    goodput = twice.summary.answered_clips_per_s / peak if peak else 0.0
    at_saturation = max(phase.summary.answer_ms.get("p95", 0.0) for phase in (closed, once))
    p95 = twice.summary.answer_ms.get("p95", 0.0)
    refusal = twice.summary.refusal_ms
    counted = all(
        p.requests["sent"] == p.requests["ended"]
        and not p.requests["ended_twice"]
        and "WRONG_ID" not in p.summary.by_code
        for p in phases
    )
    agreed = all(phase.answered == phase.server_answered for phase in phases)
    return [
        Verdict(
            f"goodput at twice the rate at least {MIN_GOODPUT:.0%} of its peak",
            f"{goodput:.1%}",
            goodput >= MIN_GOODPUT,
        ),
        Verdict(
            f"p95 of answered clips at most {MAX_P95} times that at saturation",
            f"{p95:.0f} ms against {at_saturation:.0f} ms",
            0 < p95 <= MAX_P95 * at_saturation,
        ),
        Verdict(
            f"refused within {MAX_REFUSAL_MS:.0f} ms (p95)",
            "none was refused" if not refusal else f"p50 {refusal['p50']:.0f}, p95 {refusal['p95']:.0f} ms",
            bool(refusal) and refusal["p95"] <= MAX_REFUSAL_MS,
        ),
        Verdict("every id ended once", str([phase.requests for phase in phases]), counted),
        Verdict(
            "the server counts as many answers as the callers",
            str([(phase.server_answered, phase.answered) for phase in phases]),
            agreed,
        ),
    ]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtests.overload", description=__doc__)
    parser.add_argument("--build", type=Path, required=True)
    parser.add_argument(
        "--out", type=Path, default=Path("out") / "overload", help="folder for the report; default: %(default)s"
    )
    parser.add_argument(
        "--seconds", type=float, default=30.0, help="seconds of each of the three phases; default: %(default)s"
    )
    parser.add_argument(
        "--places", type=int, default=8, help="clips in flight that the server takes; default: %(default)s"
    )
    given = parser.parse_args(arguments)
    try:
        manifest = read_manifest(given.build)
        with serve_build(given.build) as launcher:
            phases = measure(
                launcher.config.grpc_url,
                launcher.config.metrics_url,
                manifest.num_frames,
                given.out,
                seconds=given.seconds,
                places=given.places,
            )
    except AuralServeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    verdicts = judge(phases)
    for phase in phases:
        summary = phase.summary
        latency = ", ".join(f"{name} {value:.0f}" for name, value in summary.answer_ms.items())
        print(
            f"{phase.name:10} offered {summary.offered_clips_per_s:.2f}, answered {summary.answered_clips_per_s:.2f}"
            f" clips/s; ms {latency}; {summary.by_code}"
        )
    for verdict in verdicts:
        print(f"{'holds' if verdict.holds else 'FAILS'}  {verdict.promise}: {verdict.found}")
    found = machine()
    print(f"{manifest.name}, {manifest.engine} {manifest.precision}; {machine_sentence(found)}")
    record = {
        "build": manifest.name,
        "machine": found,
        "phases": [phase.record() for phase in phases],
        "verdicts": [vars(verdict) for verdict in verdicts],
    }
    write_new(given.out / "overload.json", json.dumps(record, indent=1) + "\n")
    return 0 if all(verdict.holds for verdict in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
