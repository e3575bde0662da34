"""One run of the server: prove the build, start the process, wait until its answer is right, end all of it."""

import os
import time
from collections.abc import Callable, Collection
from types import TracebackType

from auralsam2_client.contract import BY_SOUND
from service.builds.cache_lock import alone_in_cache
from service.builds.compiled_models import CheckedModels, check_compiled_models, record_compiled_models
from service.builds.golden import Golden
from service.cards.in_use import CardsInUse
from service.logs.events import INFO, WARNING, Event, Sink, Tell, as_lines
from service.logs.log import to_stderr
from service.logs.request_pipe import RequestPipe
from service.machine.shared_memory import most_bytes
from service.server.config import ServerConfig
from service.server.launch_plan import make_cache, plan_launch
from service.server.ports import check_ports
from service.server.proof import show
from service.server.readiness import Readiness
from service.server.server_process import ServerProcess
from service.server.stopping import drain


class Launcher:
    """A server process from start to end; a context manager. Use one for each run.

    Args:
        sink: gets every line of the server's log, from a thread of the launcher's.
        tell: gets them as events, in place of `sink`, and one event for each request.
        aborted: asked while starting; once it is true, start ends with ServerUnavailable.
        prove: ask the golden clip on every path at start, whatever was proven before.
        suspects: paths that are asked at start even where they were proven before.
    """

    def __init__(
        self,
        config: ServerConfig,
        *,
        sink: Sink = to_stderr,
        tell: Tell | None = None,
        aborted: Callable[[], bool] = lambda: False,
        prove: bool = False,
        suspects: Collection[str] = (),
        cards: CardsInUse | None = None,
    ) -> None:
        """`cards`: what is known of the machine's cards from earlier starts of this service."""
        self.config = config
        self.cards = CardsInUse() if cards is None else cards
        self.prove = prove or config.golden_at_start == "always"
        self.suspects = suspects
        # Lines alone say nothing of requests, and then stages need not either.
        self._tells_of_requests = tell is not None
        self._tell = tell or as_lines(sink)
        self._requests: RequestPipe | None = None
        self.aborted = aborted
        # Names this run's shared memory and marks its processes. Under 40 characters: names of regions are short.
        self.mark = f"auralsam2_{os.getpid()}_{os.urandom(4).hex()}_"
        self.golden: Golden | None = None
        # Of the first answer on each path, which later ones have to equal; none yet where a proof stood for it.
        self.digests: dict[str, str] = {}
        self.golden_duration_s = 0.0
        self.ready = False
        # Compiled models that did not fit their hash at this start, and were deleted.
        self.num_damaged_models = 0
        self._server = ServerProcess(self.mark, self._tell)

    def __enter__(self) -> "Launcher":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def first_digest(self) -> str:
        """Of the golden clip's first answer by sound; empty until it was asked, after a start on trust."""
        return self.digests.get(BY_SOUND, "")

    @property
    def pid(self) -> int | None:
        """The server's process id; None before start and after stop."""
        return self._server.pid

    @property
    def secret(self) -> str:
        """What the service's own clients bear, so that the stages believe them."""
        return self._server.secret

    @property
    def stage_pids(self) -> list[int]:
        """The processes of the Python stages, as they were when the server became ready; none where there are none."""
        return [stage.process.pid for stage in self._server.stages]

    @property
    def faulty_stage(self) -> str:
        """The stage that the last `fault` was about, by name; "" where it was about none."""
        return self._server.faulty_stage

    def start(self) -> None:
        """Start the server and return when it is ready and every path was answered as the build says: now, or at an
        earlier start of the same on this machine (`service.server.proof`).

        Raises:
            ConfigError: build, ports, GPUs or server do not fit, or the golden answer is wrong.
            ServerFault: the server ended by itself or answered with a fault; the message quotes its log.
            ServerTimeout: not ready within ready_timeout_s.
        After an error nothing is left running.
        """
        assert self.pid is None, "a launcher starts once"
        plan = plan_launch(self.config, self.cards)
        deadline = time.monotonic() + plan.ready_timeout_s
        self.golden = plan.golden
        check_ports(self.config)
        for note in plan.notes:
            self._note(note)
        try:
            folder = self._server.make_folder()
            self._open_requests()
            make_cache(self.config, self._note)
            with alone_in_cache(self.config.cache, self.aborted, deadline, self._note):
                checked = self._check_compiled_models()
                self._server.start(*plan.command(folder, self.mark), needs_gpu=plan.manifest.needs_gpu)
                readiness = Readiness(self.config, self._server, self.aborted, deadline, plan.ready_timeout_s)
                readiness.wait_until_it_says_ready()
                self._server.close_shared_memory()
                if plan.python_stages:
                    config = self.config
                    default, growth = config.shm_default_byte_size, config.shm_growth_byte_size
                    self._server.bound_shared_memory(most_bytes(config.models, default, growth))
                shown = show(plan, readiness, checked.digests, everything=self.prove, suspects=self.suspects)
                self.golden_duration_s, self.digests = shown.golden_duration_s, shown.digests
                record_compiled_models(self.config.cache, checked)
            # Only the python backend has processes of its own; stages of a GPU build live and die with the server.
            if plan.python_stages:
                self._server.find_stages()
        except BaseException:
            self.stop(drain_s=0)
            raise
        self.ready = True

    def _check_compiled_models(self) -> CheckedModels:
        checked = check_compiled_models(self.config.cache)
        self.num_damaged_models = len(checked.damaged)
        for name in checked.damaged:
            self._note(f"Warning: {self.config.cache / name} did not fit its hash; it is deleted and compiled again")
        return checked

    def _note(self, words: str) -> None:
        self._tell(Event("note", words, level=WARNING if words.startswith("Warning: ") else INFO))

    def _open_requests(self) -> None:
        """Make the pipe before the stages look for it."""
        if self._tells_of_requests:
            try:
                self._requests = RequestPipe(self.mark, self._tell)
            except OSError as error:
                self._note(f"Warning: requests are not logged, for their pipe cannot be made: {error.strerror}")

    def stop(self, drain_s: float | None = None) -> None:
        """End the server: up to drain_s for the calls under way, then SIGTERM, then SIGKILL to all that is left.

        New calls are accepted while it drains; the last of them may end with ServerUnavailable.
        Nothing stays: no process, no shared memory, no folder. May be called twice.

        Args:
            drain_s: None is the config's drain_timeout_s; 0 kills at once.
        """
        self.ready = False
        drain_s = self.config.drain_timeout_s if drain_s is None else drain_s
        if drain_s > 0 and self.pid is not None and self._server.exit_code is None:
            drain(self._server, self.config, self.golden_duration_s, drain_s)
        self._server.end()
        if self._requests is not None:
            self._requests.close()

    def fault(self) -> str | None:
        """Say what is wrong with a card that stages noted, or with the server's processes: ended, gone, or stopped.

        A guardian that ended is no fault; it is started again.
        """
        self._server.renew_guardian()
        self._server.close_shared_memory()
        return self.cards.find_failure(self.mark) or self._server.fault()
