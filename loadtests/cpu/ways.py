"""Ways to compute one clip, each in a process of its own, so that peak memory can be told apart.

A way answers the golden clip of a build; its seconds are from the clip's bytes to its mask logits.
"""

import resource
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from auralsam2_client.calls.client import Client
from auralsam2_client.contract import STAGE_NAMES, USUAL_RESULTS
from loadtests.cpu.peak_memory import PeakMemory
from model_repository.stage_runtime.engine import openvino_capabilities
from service.builds.golden import Golden
from service.builds.manifest import read_manifest
from service.server.serving import serve_build

Masks = NDArray[np.bool_]
MASK_LOGITS = "MASK_LOGITS"
# For CPUs that have it; elsewhere PyTorch computes it as well, many times slower than float32.
BFLOAT16 = "BF16"


@dataclass(frozen=True)
class Run:
    """One clip, one way."""

    seconds: float
    masks: Masks  # [T, S/4, S/4]
    stages: dict[str, float] = field(default_factory=dict)
    """Seconds by stage, where the way has stages."""


class Way(Protocol):
    """A context manager: warm once entered."""

    name: str

    def __enter__(self) -> "Way": ...

    def __exit__(self, *error: object) -> None: ...

    def run(self) -> Run: ...

    def peak_bytes(self) -> int:
        """Return the most memory that its processes have held so far."""
        ...


Compute = Callable[[], Run]


def eager(build: Path) -> Compute:
    """Run the published implementation in PyTorch, float32."""
    return _published(build, autocast=False)


def eager_bfloat16(build: Path) -> Compute:
    """Run the published implementation under PyTorch's autocast to bfloat16."""
    return _published(build, autocast=True)


def compiled(build: Path) -> Compute:
    """Run the published implementation in float32, encoder and fuser (nine tenths of it) under `torch.compile`.

    The tracker stays eager: its loop and the complex numbers of its memory attention break the graph at every step.
    """
    import torch

    from auralsam2.network import image_encoder

    image_encoder.pyramid = torch.compile(image_encoder.pyramid, dynamic=False)
    return _published(build, autocast=False, compile_fuser=True)


def _published(build: Path, *, autocast: bool, compile_fuser: bool = False) -> Compute:
    import torch

    from auralsam2.model.published import Published
    from auralsam2.network.readout import select
    from export.loading import load_aural_sam2
    from export.settings import ExportSettings

    manifest, golden = read_manifest(build), Golden.load(build)
    published = Published(load_aural_sam2(ExportSettings(manifest.preset, manifest.image_size, manifest.num_frames)))
    if compile_fuser:
        published.model.aural_fuser.compile(dynamic=False)
    frames, audio = torch.from_numpy(golden.frames), torch.from_numpy(golden.audio)

    def compute() -> Run:
        spent: dict[str, float] = {}
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            started = last = time.perf_counter()
            answers = []
            for stage, answer in zip(STAGE_NAMES, published.stages(frames, audio), strict=True):
                spent[stage] = time.perf_counter() - last
                last += spent[stage]
                answers.append(answer)
            answer = answers[-1]
            assert answer is not None
            logits = select(answer.low_res_logits, answer.iou, answer.object_score, "iou_occlusion")
            seconds = time.perf_counter() - started
        return Run(seconds, np.asarray((logits > 0).numpy()), spent)

    return compute


def engine_calls(build: Path) -> Compute:
    """Load the build's four graphs in one process, with the build's engine and precision."""
    from loadtests.cpu.engine_chain import EngineChain

    golden, chain = Golden.load(build), EngineChain(build)

    def compute() -> Run:
        values, seconds = chain.run(golden.frames, golden.audio)
        return Run(seconds, values[MASK_LOGITS] > 0, dict(chain.spent))

    return compute


COMPILED = "published, torch.compile"
IN_PROCESS: dict[str, Callable[[Path], Compute]] = {
    "published, eager float32": eager,
    "published, eager bfloat16": eager_bfloat16,
    COMPILED: compiled,
    "our graphs, one process": engine_calls,
}
REFERENCE = "published, eager float32"
GRAPHS = "our graphs, one process"
SERVICE = "our service, gRPC"


def unavailable(name: str, compile_too: bool) -> str | None:
    """Say why a way makes no sense on this CPU, or was not asked for; None where it does."""
    if name == COMPILED and not compile_too:
        return "takes minutes to compile; ask for it with --compiled"
    if name == "published, eager bfloat16" and BFLOAT16 not in openvino_capabilities():
        return "this CPU has no bfloat16 (AVX512_BF16 or AMX)"
    return None


class Apart:
    """One of IN_PROCESS in a process of its own."""

    def __init__(self, name: str, build: Path, label: str | None = None) -> None:
        self.name = label or name
        context = get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, name, build), daemon=True)
        self._peak = 0

    def __enter__(self) -> "Apart":
        self._process.start()
        self.run()
        return self

    def __exit__(self, *error: object) -> None:
        if self._process.is_alive():
            self._connection.send(None)
            self._process.join(30)
        if self._process.is_alive():
            self._process.kill()

    def run(self) -> Run:
        self._connection.send("run")
        while not self._connection.poll(1.0):
            if not self._process.is_alive():
                raise RuntimeError(f"{self.name}: its process ended with exit code {self._process.exitcode}.")
        answer = self._connection.recv()
        if isinstance(answer, str):
            raise RuntimeError(f"{self.name}: {answer}")
        run, self._peak = answer
        found: Run = run
        return found

    def peak_bytes(self) -> int:
        return self._peak


def _serve(connection: "Connection[Any, Any]", name: str, build: Path) -> None:
    compute: Compute | None = None
    while connection.recv() is not None:
        try:
            compute = compute or IN_PROCESS[name](build)
            run = compute()
        except Exception as error:  # noqa: BLE001  (told in the parent, which raises it)
            connection.send(f"{type(error).__name__}: {error}")
            return
        # Linux counts in KiB.
        connection.send((run, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))


class Served:
    """The service: the embedded server of a build, asked through gRPC."""

    def __init__(self, build: Path, label: str | None = None) -> None:
        self.name = label or SERVICE
        self._build, self._running = build, ExitStack()

    def __enter__(self) -> "Served":
        with ExitStack() as stack:
            self.launcher = stack.enter_context(serve_build(self._build))
            self.client = stack.enter_context(Client(self.launcher.config.grpc_url, timeout_s=1200))
            self._memory = PeakMemory(self.processes, self.launcher.mark)
            self._running = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._running.close()

    def run(self) -> Run:
        golden = self.launcher.golden
        assert golden is not None
        with self._memory:
            started = time.perf_counter()
            answer = self.client.infer(golden.frames, golden.audio, outputs=USUAL_RESULTS)
            seconds = time.perf_counter() - started
        return Run(seconds, answer[MASK_LOGITS] > 0)

    def peak_bytes(self) -> int:
        """Return the most that the server and its stages have held together, at one moment."""
        return self._memory.peak_bytes

    def processes(self) -> Iterator[int]:
        assert self.launcher.pid is not None
        yield self.launcher.pid
        yield from self.launcher.stage_pids
