"""Locust users that send clips over gRPC.

    locust -f loadtests/generator/locustfile.py --host 127.0.0.1:8001 --clip-users 4 --scenario ramp     # closed loop
    locust -f loadtests/generator/locustfile.py --host 127.0.0.1:8001 --arrival-rate 6                   # open loop

In a closed loop each user waits for its answer and then sends the next clip. In an open loop clips are due at random
times, whatever the server does, and latency counts from the time at which a clip was due.
"""

import atexit
import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

# Locust makes Python's own sockets and sleeps cooperative when it is imported; gRPC has to be told apart from that.
from locust import LoadTestShape, User, events, task

# isort: split
import gevent
from gevent.pool import Pool
from grpc.experimental import gevent as grpc_gevent

from auralsam2_client.calls.client import Client
from auralsam2_client.errors import AuralServeError
from auralsam2_client.new_file import write_new
from loadtests.generator.clips import load_clips
from loadtests.generator.modes import find_mode
from loadtests.generator.scenarios import SCENARIOS, arrivals, share_at
from loadtests.generator.sender import Outcome, Sender

grpc_gevent.init_gevent()

# Requests of an open loop that may be under way at once; those beyond it are sent late, and that shows.
MAX_UNDER_WAY = 400
_outcomes: list[Outcome] = []
# Channels stay open to the end of the process: closed under gevent, now and then one waits for ever for itself, whether
# it was told to close or collected as garbage.
_senders: list[Sender] = []


@events.init_command_line_parser.add_listener
def add_options(parser: Any) -> None:
    parser.add_argument(
        "--mode",
        default="audio",
        help="Prompt setting of each clip (loadtests/generator/modes.py); default: %(default)s.",
    )
    parser.add_argument(
        "--source", default="procedural", help="procedural | file:PATH | avsbench:FOLDER; default: %(default)s"
    )
    parser.add_argument(
        "--scenario",
        default="steady",
        choices=list(SCENARIOS),
        help="How load comes and goes; default: %(default)s",
    )
    parser.add_argument("--clip-users", type=int, default=4, help="Users of a closed loop; default: %(default)s.")
    parser.add_argument(
        "--arrival-rate",
        type=float,
        default=0.0,
        help="Clips a second of an open loop; 0: closed; default: %(default)s.",
    )
    parser.add_argument("--duration", type=float, default=120.0, help="Seconds; default: %(default)s.")
    parser.add_argument(
        "--call-timeout", type=float, default=60.0, help="Seconds that a caller waits; default: %(default)s."
    )
    parser.add_argument(
        "--outcomes", type=Path, default=None, help="Write every request's end here, a JSON a line; default: nowhere."
    )


@events.test_start.add_listener
def prepare(environment: Any, **others: Any) -> None:
    """Read and prepare the clips once, for all users."""
    options = environment.parsed_options
    mode = find_mode(options.mode)
    environment.asking = Client(environment.host, mode.model)
    clips = load_clips(options.source, environment.asking.clip_shape())
    environment.clip_mode = mode
    environment.prepared = [mode.prepare(clip) for clip in clips]


@events.quitting.add_listener
def write_outcomes(environment: Any, **others: Any) -> None:
    path = environment.parsed_options.outcomes
    if path is not None:
        write_new(path, "".join(json.dumps(asdict(outcome)) + "\n" for outcome in _outcomes))
    # A refused clip is a finding of the test, not a failure of it.
    environment.process_exit_code = 0


@events.quit.add_listener
def end_at_once(exit_code: int, **others: Any) -> None:
    """Leave Python, once locust has closed its files, without taking the channels down one by one."""

    def leave() -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(exit_code)

    # What was registered last is run first.
    atexit.register(leave)


class Scenario(LoadTestShape):
    """Users over time. An open loop has one user, which brings a clip on its way whenever one is due."""

    def tick(self) -> tuple[int, float] | None:
        options = self.runner.environment.parsed_options
        at = self.get_run_time() / options.duration
        if at >= 1:
            return None
        if options.arrival_rate:
            return 1, 1
        num_users = max(1, round(options.clip_users * share_at(options.scenario, at)))
        return num_users, num_users


class ClipUser(User):
    """One caller with a channel of its own."""

    def on_start(self) -> None:
        self.options = self.environment.parsed_options
        self.sender = self._sender()
        self.all_sent = False

    @task
    def run_load(self) -> None:
        if self.all_sent:
            gevent.sleep(0.2)
        elif self.options.arrival_rate:
            self._arrivals()
            self.all_sent = True
        else:
            self._report(*self.sender.send())

    def _sender(self) -> Sender:
        environment = self.environment
        sender = Sender(
            environment.host,
            environment.clip_mode,
            environment.prepared,
            timeout_s=environment.parsed_options.call_timeout,
        )
        _senders.append(sender)
        return sender

    def _arrivals(self) -> None:
        options, started, pool = self.options, time.time(), Pool(MAX_UNDER_WAY)
        free = [self.sender]
        for due in arrivals(options.arrival_rate, options.duration, options.scenario):
            gevent.sleep(max(0.0, started + due - time.time()))
            pool.spawn(self._send_one, free, started + due)
        pool.join()

    def _send_one(self, free: list[Sender], due_s: float) -> None:
        sender = free.pop() if free else self._sender()
        try:
            self._report(*sender.send(due_s))
        finally:
            free.append(sender)

    def _report(self, outcome: Outcome, failure: AuralServeError | None) -> None:
        _outcomes.append(outcome)
        self.environment.events.request.fire(
            request_type="grpc",
            name=f"{self.environment.clip_mode.prompts} {outcome.code if failure else 'answered'}",
            response_time=1e3 * outcome.latency_s,
            response_length=0,
            exception=None if failure is None else RuntimeError(outcome.code),
            context={},
        )
