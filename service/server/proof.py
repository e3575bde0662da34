"""A start that was proven: what the golden clip showed once need not be shown again, as long as nothing has changed.

At 1024 px the golden clip is most of a start. Once it was answered rightly on every path, a note in the cache of
compiled models says by what: build, environment of the server, CPU, threads, and the compiled models themselves, each
by its hash. While all of it is the same, the next server says ready without the clip, and its supervisor sends the clip
right after, one path after the other.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from auralsam2_client.errors import ConfigError
from service.builds.compiled_models import HASH_SUFFIX
from service.builds.golden_answer import WrongAnswer
from service.builds.manifest import sha256
from service.server.launch_plan import LaunchPlan
from service.server.readiness import Readiness

# 2: of every path, not of that by sound alone.
FORMAT = 2
PREFIX = "proof-"
# What the answer's last digits, and thus the proof, may depend on.
CPU_LINES = ("model name", "stepping", "microcode", "flags")


@dataclass(frozen=True)
class Proof:
    """What a proven start has told about those to come."""

    golden_duration_s: float


@dataclass(frozen=True)
class Shown:
    """What a start rests on: each path was shown by it, or by an earlier one of the same."""

    golden_duration_s: float
    """Of the golden clip by sound."""
    digests: dict[str, str]
    """Hash of the answer by path, of those that this start was asked."""


def show(
    plan: LaunchPlan,
    readiness: Readiness,
    digests: Mapping[str, str],
    *,
    everything: bool = False,
    suspects: Collection[str] = (),
) -> Shown:
    """Have every path answered, unless an earlier start was proven and nothing has changed since.

    Args:
        digests: hashes of compiled models by name, as far as this start has taken them already.
        everything: whatever was proven counts for nothing.
        suspects: paths that are asked all the same.
    Raises: WrongAnswer, after which nothing is proven any more; what `Readiness.ask` raises.
    """
    # What an installed server for GPUs depends on, the proof does not know.
    provable = not plan.manifest.needs_gpu
    proof = recall(plan, digests) if provable and not everything else None
    if proof is None:
        forget(plan)
    duration_s, shown = 0.0 if proof is None else proof.golden_duration_s, dict[str, str]()
    for request in plan.golden.requests:
        if proof is not None and request.path not in suspects:
            continue
        try:
            answer = readiness.ask(request)
        except WrongAnswer:
            forget(plan)
            raise
        if request is plan.golden.by_sound:
            duration_s = answer.duration_s
        shown[request.path] = answer.digest
        readiness = readiness.with_time_of_its_own()
    if proof is None and provable:
        keep(plan, duration_s)
    return Shown(duration_s, shown)


def recall(plan: LaunchPlan, digests: Mapping[str, str] | None = None) -> Proof | None:
    """Read the proof of an earlier start of the same build; None where there is none or anything has changed.

    `digests`: hashes of compiled models by name, as far as this start has taken them already.
    """
    try:
        path = _path(plan)
        record: Any = json.loads(path.read_text())
        compiled: dict[str, str] = record["compiled"]
        duration_s = float(record["golden_duration_s"])
        # What other builds have put beside them since is no matter.
        known = digests or {}
        same = all((known.get(name) or sha256(path.parent / name)) == digest for name, digest in compiled.items())
    except (OSError, ValueError, TypeError, KeyError, AttributeError, ConfigError):
        return None
    same = same and record.get("format") == FORMAT and record.get("paths") == _paths(plan)
    return Proof(duration_s) if same else None


def forget(plan: LaunchPlan) -> None:
    """Remove a proof before a start that has to prove itself: an answer that was right once may be wrong now."""
    with contextlib.suppress(OSError, ConfigError):
        _path(plan).unlink(missing_ok=True)


def keep(plan: LaunchPlan, golden_duration_s: float) -> None:
    """Note that every path was answered rightly. Where the cache cannot be written, nothing is kept."""
    with contextlib.suppress(OSError, ConfigError):
        path = _path(plan)
        compiled = {
            file.relative_to(path.parent).as_posix(): sha256(file)
            for file in sorted(path.parent.rglob("*"))
            if file.is_file() and not file.name.startswith((PREFIX, ".")) and file.suffix != HASH_SUFFIX
        }
        if not compiled:
            # Nothing was kept of what the engines made: the next server makes it again, and has to prove it.
            return
        record = {
            "format": FORMAT,
            "paths": _paths(plan),
            "golden_duration_s": golden_duration_s,
            "compiled": compiled,
        }
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        partial.write_text(json.dumps(record, indent=1) + "\n")
        partial.replace(path)


def _paths(plan: LaunchPlan) -> list[str]:
    return [request.path for request in plan.golden.requests]


def _path(plan: LaunchPlan) -> Path:
    return plan.config.cache / f"{PREFIX}{_fingerprint(plan)[:24]}.json"


def _fingerprint(plan: LaunchPlan) -> str:
    config, total = plan.config, hashlib.sha256()
    # The manifest holds the hash of every served file, and `plan_launch` has compared them.
    for name in ("manifest.json", "golden.npz"):
        total.update(sha256(config.build / name).encode())
    # Of an installed server, the notes name home and version.
    told = (*_environment(config.server_env), *_cpu(), f"threads {config.num_threads}", config.model, *plan.notes)
    for part in told:
        total.update(part.encode() + b"\0")
    return total.hexdigest()


def _environment(server_env: Path) -> list[str]:
    """Every package of the server's environment with its version, as the names of its metadata have them."""
    return sorted(path.name for path in server_env.glob("lib/python*/site-packages/*.dist-info"))


def _cpu() -> list[str]:
    with contextlib.suppress(OSError):
        first = Path("/proc/cpuinfo").read_text().split("\n\n", 1)[0].splitlines()
        return [line for line in first if line.startswith(CPU_LINES)]
    return []
