"""The rows of the service: a build for the card is exported and served, twice, and asked by 1, 2, 4 and 8 callers."""

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from auralsam2_client.errors import AuralServeError, ConfigError
from loadtests.cases.case import Case
from loadtests.gpu.measuring.card import smi
from loadtests.gpu.measuring.timing import explain
from loadtests.gpu.planning import jobs
from loadtests.gpu.rows.callers import Calls, drive, summarise_calls
from loadtests.gpu.rows.network import Keep
from service.server.launcher import Launcher
from service.server.serving import serve_build

MEMORY_QUERY = ("memory.used",)
MOST_CALLING_S = 12.0
SECOND_START_S = 40.0
"""Kept for the second start; what the callers get is shared out of the rest."""
Export = Callable[[Case, str, Path, float], Path]
Serve = Callable[[Path, float], AbstractContextManager[Launcher]]
Drive = Callable[[str, Path, int, float], list[Calls]]


def export_build(case: Case, precision: str, folder: Path, seconds: float, device: str = "cuda") -> Path:
    """Export a case for the card by the command that a person types; a build that is there already stays.

    Raises: ConfigError with the command's last words.
    """
    build = folder / f"{case.name}-{device}-{precision}"
    if (build / "manifest.json").is_file():
        return build
    options = {
        "--target": "cuda",
        "--preset": case.preset,
        "--image-size": case.image_size,
        "--num-frames": case.num_frames,
        "--precision": precision,
        "--out": build,
    }
    if device != "cuda":
        options["--device"] = device
    words = [str(word) for pair in options.items() for word in pair]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "service.commands.cli", "export", *words],
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ConfigError(f"auralsam2 export --target cuda did not end within {seconds:.0f} s.") from error
    if done.returncode:
        raise ConfigError(f"auralsam2 export --target cuda ended with {done.returncode}: {_last_words(done)}")
    return build


def _last_words(done: "subprocess.CompletedProcess[str]") -> str:
    lines = [line.strip(" │╭╮╰╯─") for line in f"{done.stdout}\n{done.stderr}".splitlines()]
    return " ".join([line for line in lines if line][-3:])[-300:]


def serve_for(build: Path, seconds: float) -> AbstractContextManager[Launcher]:
    """Serve a build; being ready may take so long. Raises: as `serve_build`."""
    return serve_build(build, ready_timeout_s=max(1.0, seconds))


def measure_service(
    case: Case,
    precision: str,
    rows: Sequence[str],
    seconds: float,
    keep: Keep,
    folder: Path,
    *,
    export: Export = export_build,
    serve: Serve = serve_for,
    call: Drive = drive,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Measure the service; `keep` gets the row of its starts and one for each number of callers.

    Args:
        rows: some of jobs.SERVICE_ROWS.
        folder: where the build is kept; its compiled code is in it, so the first start of a later run is a second one.
        export, serve, call: stand in for the command, the server, and the callers.
    Raises: AuralServeError when there is no build, or its server does not start.
    """
    end, begun = clock() + seconds, clock()
    build = export(case, precision, folder, seconds)
    starts: dict[str, Any] = {"precision": precision, "export_s": clock() - begun}
    wanted = [count for count in jobs.CALLERS if jobs.callers_row(count) in rows]
    before = _memory_mib()
    begun = clock()
    with serve(build, end - clock()) as launcher:
        starts["first_start_s"] = clock() - begun
        for number, count in enumerate(wanted):
            share = (end - clock() - SECOND_START_S) / (len(wanted) - number)
            keep(jobs.callers_row(count), _ask(call, launcher, build, count, min(MOST_CALLING_S, share / 2), case))
        if before is not None and (now := _memory_mib()) is not None:
            starts["card_memory_mib"] = now - before
    if end > clock():
        begun = clock()
        with serve(build, end - clock()):
            starts["second_start_s"] = clock() - begun
    keep(jobs.READY_ROW, starts)


def _ask(call: Drive, launcher: Launcher, build: Path, count: int, seconds: float, case: Case) -> dict[str, Any]:
    if seconds < 1:
        return {"reason": jobs.OUT_OF_TIME}
    try:
        return summarise_calls(call(launcher.config.grpc_url, build, count, seconds), case.num_frames)
    except AuralServeError as error:
        return {"reason": explain(error)}


def _memory_mib() -> float | None:
    told = smi(MEMORY_QUERY).get("memory.used", "")
    return float(told) if told.replace(".", "", 1).isdecimal() else None
