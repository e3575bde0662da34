"""Table 1's frames a second: every row through the service, and in the published form, in turns within one run.

The published form is the network in plain PyTorch, eager float32, unfused, on the same cores. A slow minute slows all
rows, so that what compares them is ratios.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import torch

from auralsam2.model.published import Published
from auralsam2.prompted.prompts import FramePrompt
from auralsam2_client.calls.wire import ClipShape
from auralsam2_client.errors import ServerFault
from export.loading import load_model
from export.settings import ExportSettings
from loadtests.generator.clips import Clip, procedural
from loadtests.generator.modes import MODES, Mode
from loadtests.generator.sender import OK, Sender
from loadtests.tables.paper import Row
from loadtests.tables.parts import Part
from service.builds.manifest import Manifest, read_manifest
from service.server.serving import serve_build

Call = Callable[[], object]
SERVICE, PUBLISHED = "service", "published"


def measure(rows: Sequence[Row], builds: Mapping[str, Path], rounds: int, part: Part, budget_s: float) -> None:
    """Time each row in so many rounds, as seconds of a clip under its key: {"service": [...], "published": [...]}.

    Args:
        builds: by method; all are served at once, one clip at a time is asked.
        rounds: those that `part` holds count.
        budget_s: no round begins later than this after the first, but one is always made.
    Raises: AuralServeError when a server does not start or does not answer.
    """
    left = rounds - min((len(part.found.get(row.key, {SERVICE: []})[SERVICE]) for row in rows), default=0)
    if left <= 0:
        return
    with ExitStack() as stack:
        ways: dict[str, dict[str, Call]] = {}
        for method, build in builds.items():
            manifest = read_manifest(build)
            url = stack.enter_context(serve_build(build)).config.grpc_url
            clip = procedural(ClipShape(manifest.num_frames, manifest.image_size), 1)[0]
            network = published_network(manifest, method)
            for row in rows:
                if row.method == method:
                    mode = MODES[row.prompts]
                    ways[row.key] = {
                        SERVICE: through_service(url, mode, clip),
                        PUBLISHED: in_published_form(network, mode, clip),
                    }
        for calls in ways.values():  # the warm-up
            for call in calls.values():
                call()
        began_s = time.monotonic()
        for number in range(left):
            if number and time.monotonic() - began_s > budget_s:
                return
            for key, calls in ways.items():
                spent = part.found.get(key, {name: [] for name in calls})
                for name, call in calls.items():
                    started_s = time.perf_counter()
                    call()
                    spent[name].append(time.perf_counter() - started_s)
                part.keep(key, spent)


def published_network(manifest: Manifest, method: str) -> Published:
    """Build a build's network in the published form, with its preset's own weights."""
    settings = ExportSettings(manifest.preset, manifest.image_size, manifest.num_frames, method=method)
    return Published(load_model(settings))


def through_service(url: str, mode: Mode, clip: Clip) -> Call:
    """Make what sends a clip and waits for its answer. It raises AuralServeError where there is none."""
    sender = Sender(url, mode, [mode.prepare(clip)], timeout_s=600)

    def call() -> None:
        outcome, failure = sender.send()
        if failure is not None:
            raise failure
        if outcome.code != OK:
            raise ServerFault(f"The clip {outcome.id} ended as {outcome.code}. Look at the server's log.")

    return call


def in_published_form(network: Published, mode: Mode, clip: Clip) -> Call:
    """Make what computes the same in this process, from the clip's bytes to its logits."""
    frames, audio = torch.from_numpy(clip.frames), torch.from_numpy(clip.audio)
    if mode.kinds == {"audio"}:
        return lambda: network(frames, audio)
    prompts = [prompt_of(mode, clip)]
    if "audio" in mode.kinds:
        return lambda: network.by_both(frames, audio, prompts)
    return lambda: network.by_prompts(frames, prompts)


def prompt_of(mode: Mode, clip: Clip) -> FramePrompt:
    """Give the marks that the load generator sends, as the network takes them."""
    sent = mode.tensors(clip.frames.shape[1])
    coords, labels = torch.zeros(0, 2), torch.zeros(0)
    if "POINT_LABELS" in sent:
        given = sent["POINT_LABELS"] >= 0
        coords, labels = torch.from_numpy(sent["POINT_COORDS"][given]), torch.from_numpy(sent["POINT_LABELS"][given])
    mask = torch.from_numpy(sent["MASK_INPUT"]) if "MASK_INPUT" in sent else None
    frame = int(sent["PROMPT_FRAME"][0]) if "PROMPT_FRAME" in sent else 0
    return FramePrompt(frame, coords, labels, mask)
