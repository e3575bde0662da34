"""The service on a card: a build for it answers by sound, by prompts and in a session; and, asked for, for an hour."""

import contextlib
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from auralsam2.evaluation.quality import mean_iou
from auralsam2_client.calls.client import Client
from auralsam2_client.calls.segmentation import Segmentation
from auralsam2_client.contract import RESULTS
from auralsam2_client.errors import AuralServeError
from auralsam2_client.prompts import Prompts
from loadtests.cases.case import Case
from loadtests.gpu.checks.check import Check, LeftOutError, Place
from loadtests.gpu.checks.wire_checks import wire_checks
from loadtests.gpu.measuring.card import smi
from loadtests.gpu.report.tables import IOU_EXPECTED
from loadtests.gpu.rows.callers import Calls, drive, summarise_calls
from loadtests.gpu.rows.service import export_build, serve_for
from service.builds.golden import Golden
from service.server.launcher import Launcher

CASE = Case("compact", 256, 5)
EXPORT_S, READY_S = 900.0, 600.0
SOAK_CALLERS, SOAK_SLICE_S = 4, 60.0
GROWTH_BYTES = 128 << 20
"""Of the server's memory, and of the card's, from the first slice of a soak to its last; a leak grows on."""
Server = Callable[[Place], contextlib.AbstractContextManager[Launcher]]


@contextlib.contextmanager
def serve_case(place: Place) -> Iterator[Launcher]:
    """Export the smallest network for the card, and serve it. Raises: LeftOutError where it cannot be exported here."""
    try:
        precision = "float16" if place.device == "cuda" else "float32"
        build = export_build(CASE, precision, place.folder / "builds", EXPORT_S, place.device)
    except AuralServeError as error:
        raise LeftOutError(str(error)) from error
    with serve_for(build, READY_S) as launcher:
        yield launcher


def service_checks(serve: Server = serve_case) -> list[Check]:
    """List the checks of the service.

    Args:
        serve: yields a launcher that is ready; its build is of any device.
    """
    return [Check("service: by sound, by prompts, in a session", "service", partial(_answers, serve)), *wire_checks()]


def soak_checks(seconds: float, serve: Server = serve_case) -> list[Check]:
    """List the soak, which takes so many seconds; none for 0."""
    name = f"service: {SOAK_CALLERS} callers for {seconds:.0f} s"
    return [Check(name, "soak", partial(_soak, serve, seconds))] if seconds > 0 else []


def _answers(serve: Server, place: Place) -> None:
    with serve(place) as launcher, Client(launcher.config.grpc_url, timeout_s=120) as client:
        golden = launcher.golden
        assert golden is not None
        check_sound(client, golden)
        check_prompts(client, golden)


def check_sound(client: Client, golden: Golden) -> None:
    """Ask the golden clip by sound: masks as the float32 network has them, and the same bytes twice."""
    first, second = (client.infer(golden.frames, golden.audio, outputs=RESULTS) for _ in range(2))
    agreement = mean_iou(first["CANDIDATE_LOGITS"] > 0, golden.reference["CANDIDATE_LOGITS"] > 0)
    assert agreement >= IOU_EXPECTED, f"masks by sound agree with the network by {agreement:.4f}"
    for name, value in first.items():
        assert np.array_equal(value, second[name]), f"{name} of the same clip differs from one call to the next"


def check_prompts(client: Client, golden: Golden) -> None:
    """Ask by points and by a box, with sound and without, at once and in a session: its first round answers as one
    request does, and the same rounds again as they did before.
    """
    frames, side = golden.frames, golden.frames.shape[1]
    point = Prompts(points=[(side / 2, side / 2, "+")])
    box = Prompts(box=(side / 4, side / 4, 3 * side / 4, 3 * side / 4))
    for name, prompts, use_audio in (("a point", point, False), ("a box with sound", box, True)):
        answer = client.segment(frames, golden.audio if use_audio else None, prompts=prompts, use_audio=use_audio)
        _is_sound(name, answer, len(frames))
    rounds = []
    for _ in range(2):
        with client.session(frames, None, use_audio=False) as session:
            rounds.append((session.segment(point), session.click(side / 8, side / 8, "-")))
    for number, (one, other) in enumerate(zip(*rounds, strict=True), 1):
        _is_sound(f"round {number}", one, len(frames))
        _same(f"round {number} of a session", one, "the same round of another", other)
    at_once = client.segment(frames, None, prompts=point, use_audio=False)
    _same("round 1 of a session", rounds[0][0], "one request", at_once)


def _is_sound(name: str, answer: Segmentation, num_frames: int) -> None:
    found = answer.mask_logits
    assert found.shape[0] == num_frames, f"{name}: {found.shape[0]} frames, not {num_frames}"
    assert np.isfinite(found).all(), f"{name}: logits are not finite"
    assert (found > 0).any(), f"{name}: every mask is empty"


def _same(name: str, found: Segmentation, other: str, wanted: Segmentation) -> None:
    agreement = mean_iou(found.mask_logits > 0, wanted.mask_logits > 0)
    assert agreement >= IOU_EXPECTED, f"{name} agrees with {other} by {agreement:.4f}"


def _soak(
    serve: Server,
    seconds: float,
    place: Place,
    *,
    call: Callable[[str, Path, int, float], list[Calls]] = drive,
    measure: Callable[[Launcher], dict[str, float]] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Let callers ask without a pause: every answer is right, and memory does not grow."""
    measure = measure or held_bytes
    with serve(place) as launcher:
        end, held = clock() + seconds, list[dict[str, float]]()
        while clock() < end:
            slice_s = min(SOAK_SLICE_S, max(1.0, end - clock()))
            figures = summarise_calls(
                call(launcher.config.grpc_url, launcher.config.build, SOAK_CALLERS, slice_s), CASE.num_frames
            )
            _holds(figures)
            held.append(measure(launcher))
    for name, first in held[0].items():
        grown = held[-1][name] - first
        assert grown <= GROWTH_BYTES, f"memory of the {name} grew by {grown / 2**20:.0f} MiB in {seconds:.0f} s"


def _holds(figures: dict[str, Any]) -> None:
    assert "reason" not in figures, figures.get("reason")
    assert figures["failures"] == 0, f"{figures['failures']} calls failed, the first with {figures['first_failure']}"
    assert figures["mask_iou"] >= IOU_EXPECTED, f"masks agree with the golden ones by {figures['mask_iou']:.4f}"


def held_bytes(launcher: Launcher) -> dict[str, float]:
    """Read what the server's processes and the card hold, in bytes; the card only where nvidia-smi says it."""
    pids = [pid for pid in (launcher.pid, *launcher.stage_pids) if pid is not None]
    found = {"server": float(sum(_resident_bytes(pid) for pid in pids))}
    told = smi(("memory.used",)).get("memory.used", "")
    return found | ({"card": float(told) * 2**20} if told.isdecimal() else {})


def _resident_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    # Linux counts in KiB.
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
