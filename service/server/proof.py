"""A start that was proven: what the golden clip showed once need not be shown again, as long as nothing has changed.

At 1024 px the golden clip is most of a start. Once it was answered rightly, a note in the cache of compiled models says
by what: build, environment of the server, CPU, threads, and the compiled models themselves, each by its hash. While all
of it is the same, the next server says ready without the clip, and its supervisor sends the clip right after.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from auralsam2_client.errors import ConfigError
from service.builds.compiled_models import HASH_SUFFIX
from service.builds.manifest import sha256
from service.server.launch_plan import LaunchPlan

FORMAT = 1
PREFIX = "proof-"
# What the answer's last digits, and thus the proof, may depend on.
CPU_LINES = ("model name", "stepping", "microcode", "flags")


@dataclass(frozen=True)
class Proof:
    """What a proven start has told about those to come."""

    golden_duration_s: float


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
    return Proof(duration_s) if same and record.get("format") == FORMAT else None


def forget(plan: LaunchPlan) -> None:
    """Remove a proof before a start that has to prove itself: an answer that was right once may be wrong now."""
    with contextlib.suppress(OSError, ConfigError):
        _path(plan).unlink(missing_ok=True)


def keep(plan: LaunchPlan, golden_duration_s: float) -> None:
    """Note that the golden clip was answered rightly. Where the cache cannot be written, nothing is kept."""
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
        record = {"format": FORMAT, "golden_duration_s": golden_duration_s, "compiled": compiled}
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        partial.write_text(json.dumps(record, indent=1) + "\n")
        partial.replace(path)


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
