"""Starts locust as a process of its own, without its web page, and reads what became of every request."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from auralsam2_client.calls.frame_wire import RAW
from auralsam2_client.errors import ConfigError
from loadtests.generator.options import NO_METRICS
from loadtests.generator.sender import Outcome

LOCUSTFILE = Path(__file__).with_name("locustfile.py")
ROOT = LOCUSTFILE.parents[2]


@dataclass(frozen=True)
class Load:
    """One run of the generator: an open loop of `rate` clips a second where that is above 0, else `users` in turn."""

    duration_s: float
    users: int = 4
    rate: float = 0.0
    scenario: str = "steady"
    mode: str = "audio"
    source: str = "procedural"
    timeout_s: float = 60.0
    wire: str = RAW
    spawn_rate: float | None = None  # users a second; None: all at once

    @property
    def loop(self) -> str:
        return f"open, {self.rate:g} clips a second offered" if self.rate else f"closed, {self.users} users"


def locust_options(load: Load, url: str, outcomes: Path) -> dict[str, object]:
    """Say a load in locust's own flags and ours; users and times are locust's."""
    return {
        "--locustfile": LOCUSTFILE,
        "--host": url,
        "--mode": load.mode,
        "--source": load.source,
        "--wire": load.wire,
        "--scenario": load.scenario,
        # The rate of an open loop is one user's.
        "--users": 1 if load.rate else load.users,
        "--spawn-rate": 1 if load.rate else load.spawn_rate or load.users,
        "--run-time": math.ceil(load.duration_s),
        "--arrival-rate": load.rate,
        "--call-timeout": load.timeout_s,
        "--metrics-url": NO_METRICS,
        "--outcomes": outcomes,
        # A refused clip is a finding here, not a failure.
        "--exit-code-on-error": 0,
        # Calls under way when the time is over are waited for, so that none is lost.
        "--stop-timeout": int(load.timeout_s) + 1,
        "--loglevel": "WARNING",
    }


def drive(url: str, load: Load, out: Path, *, name: str = "load", reports: Sequence[str] = ()) -> list[Outcome]:
    """Run a load to its end; every request that was sent is in the answer, in the order of their ends.

    Args:
        out: folder for outcomes and locust's own files, which begin with `name`.
        reports: more of locust's options, as ("--html", path). Stages are reported where "--metrics-url" is among them.
    Raises: ConfigError when the generator could not run; the message has its last words.
    """
    out.mkdir(parents=True, exist_ok=True)
    outcomes = (out / f"{name}_outcomes.jsonl").absolute()
    outcomes.unlink(missing_ok=True)
    words = [str(word) for pair in locust_options(load, url, outcomes).items() for word in pair]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    allowed_s = load.duration_s + load.timeout_s + 60
    try:
        done = subprocess.run(
            [sys.executable, "-m", "locust", "--headless", "--only-summary", *words, *reports],
            env=os.environ | {"PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=allowed_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ConfigError(
            f"The load generator was ended after {allowed_s:g} s; {load.duration_s:g} s of load were asked. Look at the"
            " server's log, and repeat with a shorter run time."
        ) from error
    if done.returncode or not outcomes.is_file():
        words = (done.stderr or done.stdout).strip().splitlines()[-6:]
        raise ConfigError(f"The load generator ended with {done.returncode}: {' | '.join(words)[-1500:]}")
    return [Outcome(**json.loads(line)) for line in outcomes.read_text().splitlines()]
