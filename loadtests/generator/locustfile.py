"""Locust users that send clips over gRPC. Locust's own flags, and its web form, say how many, how fast and how long.

    locust -f loadtests/generator/locustfile.py -u 8 -r 2 -t 60s --headless                    # closed loop
    locust -f loadtests/generator/locustfile.py -u 8 -t 60s --headless --scenario ramp
    locust -f loadtests/generator/locustfile.py --arrival-rate 6 -t 60s --headless             # open loop
    locust -f loadtests/generator/locustfile.py                                                # web form, port 8089

In a closed loop each user waits for its answer and then sends the next clip. In an open loop clips are due at random
times, whatever the server does, and latency counts from the time at which a clip was due; users share the rate.
"""

import atexit
import itertools
import json
import logging
import math
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

# Locust makes Python's own sockets and sleeps cooperative when it is imported; gRPC has to be told apart from that.
from locust import LoadTestShape, User, events, task
from locust.runners import MasterRunner, WorkerRunner

# isort: split
import gevent
from flask import jsonify, request
from flask_login import current_user
from gevent.hub import Hub
from gevent.pool import Pool
from grpc.experimental import gevent as grpc_gevent

from auralsam2_client.errors import AuralServeError
from auralsam2_client.new_file import write_new
from loadtests.generator import options, rows
from loadtests.generator.plan import Plan, make_plan
from loadtests.generator.scenarios import arrivals, is_steady, share_at
from loadtests.generator.sender import OK, Outcome

grpc_gevent.init_gevent()
# Ctrl-C ends a run with its report; the user that was just running has no fault to tell of.
Hub.NOT_ERROR += (KeyboardInterrupt,)

# Requests of an open loop that may be under way at once; those beyond it are sent late, and that shows.
MAX_UNDER_WAY = 400
# Of one process, so that no two users of several draw the same times.
MAX_USERS = 10_000
READ_EVERY_S = 2.0
# What an idle user, or one whose next clip is not due yet, sleeps between looks at whether it is told to stop.
NAP_S = 0.2
_outcomes: list[Outcome] = []
_console = logging.getLogger("locust.stats_logger")
_log = logging.getLogger(__name__)

events.init_command_line_parser.add_listener(options.add_options)


@events.init.add_listener
def begin(environment: Any, runner: Any, web_ui: Any, **others: Any) -> None:
    """Take the command line at its word before a user is spawned, and every form before it starts a run."""
    environment.plan = environment.stages = None
    environment.numbers = itertools.count()

    if web_ui is not None:

        @web_ui.app.before_request
        def take_form() -> Any:
            if request.endpoint != "locust.swarm" or (web_ui.web_login and not current_user.is_authenticated):
                return None
            known = vars(environment.parsed_options)
            try:
                take(environment, known | {"run_time": None} | request.form.to_dict())
            except AuralServeError as error:
                return jsonify({"success": False, "message": str(error), "host": environment.host})
            if not request.form.get("run_time"):
                # The form's word, too: no end.
                environment.parsed_options.run_time = None
            return None

    started_here = environment.parsed_options.headless or environment.parsed_options.autostart
    if started_here and not isinstance(runner, WorkerRunner):
        try:
            take(environment, vars(environment.parsed_options))
        except AuralServeError as error:
            print(f"error: {error}", file=sys.stderr)
            leave(1)

    @events.quit.add_listener
    def say_rows(**others: Any) -> None:
        # A worker's figures are in its master's report.
        if not isinstance(runner, WorkerRunner):
            for line in rows.sentences(environment.stats):
                _console.info(line)


def take(environment: Any, chosen: Mapping[str, Any]) -> None:
    """Check and prepare a run; the scenario's shape takes the place of locust's constant users where it changes them.

    Raises: AuralServeError.
    """
    options.check(chosen)
    environment.plan = make_plan(chosen["host"], chosen)
    runner = environment.runner
    if runner.shape_greenlet is None:
        shape = None if is_steady(chosen["scenario"]) or float(chosen["arrival_rate"]) else ScenarioShape()
        if shape is not None:
            shape.runner = runner
        environment.shape_class = shape


@events.test_start.add_listener
def prepare(environment: Any, **others: Any) -> None:
    """Begin to read the stages; where nobody prepared the clips, on a worker or after the key `w`, do that too."""
    environment.numbers = itertools.count()
    worker = isinstance(environment.runner, WorkerRunner)
    if worker or environment.plan is None:
        try:
            environment.plan = make_plan(environment.host, vars(environment.parsed_options))
        except AuralServeError as error:
            _log.error("%s", error)
            environment.process_exit_code = 1
            gevent.spawn_later(0, environment.runner.quit)
            return
    page = options.metrics_page(environment.plan.host, environment.parsed_options.metrics_url)
    if page is not None and not worker:
        try:
            environment.stages = rows.StageRows(page)
        except AuralServeError as error:
            _log.warning("The report has no stages: %s Give the page with --metrics-url.", error)
            return
        environment.reading = gevent.spawn(read_stages, environment)


def read_stages(environment: Any) -> None:
    while True:
        gevent.sleep(READ_EVERY_S)
        read_once(environment)


def read_once(environment: Any) -> None:
    try:
        environment.stages.read(environment.stats)
    except AuralServeError as error:
        _log.warning("%s", error)


@events.test_stop.add_listener
def read_the_rest(environment: Any, **others: Any) -> None:
    if environment.stages is not None:
        environment.reading.kill()
        read_once(environment)
        environment.stages = None


@events.quitting.add_listener
def write_outcomes(environment: Any, **others: Any) -> None:
    """Write how every request ended; each of several workers into a file of its own, which ends in its number."""
    path, runner = environment.parsed_options.outcomes, environment.runner
    if path and not isinstance(runner, MasterRunner):
        if isinstance(runner, WorkerRunner):
            path += f".{runner.worker_index}"
        write_new(Path(path), "".join(json.dumps(asdict(outcome)) + "\n" for outcome in _outcomes))


@events.quit.add_listener
def end_at_once(exit_code: int, **others: Any) -> None:
    """Leave Python, once locust has closed its files, without taking the channels down one by one."""
    # What was registered last is run first.
    atexit.register(leave, exit_code)


def leave(exit_code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)


class ScenarioShape(LoadTestShape):
    """A share of locust's users that changes over its run time. Locust is handed one where a scenario asks for it."""

    abstract = True
    use_common_options = True

    def tick(self) -> tuple[int, float] | None:
        given = self.runner.environment.parsed_options
        at = self.get_run_time() / given.run_time
        if at >= 1:
            return None
        peak = given.num_users or 1
        return max(1, round(peak * share_at(given.scenario, at))), given.spawn_rate or peak


class ClipUser(User):
    """One caller with a channel of its own."""

    def on_start(self) -> None:
        self.plan: Plan | None = self.environment.plan
        self.given = self.environment.parsed_options
        self.pool: Pool | None = None
        if self.plan is None:
            return
        self.free = [self.plan.open_sender(self.given.call_timeout)]
        if self.given.arrival_rate:
            number = next(self.environment.numbers) + MAX_USERS * self.environment.runner.worker_index
            users = self.given.num_users or 1
            self.pool, self.started_s = Pool(MAX_UNDER_WAY), time.time()
            self.due = arrivals(
                self.given.arrival_rate / users, self.given.run_time or math.inf, self.given.scenario, seed=8 + number
            )
            self.next_s = next(self.due, None)

    @task
    def run_load(self) -> None:
        if self.plan is None:
            gevent.sleep(NAP_S)
        elif self.pool is None:
            self._report(self.plan, *self.free[0].send())
        else:
            self._offer_next(self.plan, self.pool)

    def on_stop(self) -> None:
        if self.pool is not None:
            self.pool.join(timeout=self.environment.stop_timeout)
            self.pool.kill()

    def _offer_next(self, plan: Plan, pool: Pool) -> None:
        early_s = NAP_S if self.next_s is None else self.started_s + self.next_s - time.time()
        gevent.sleep(min(max(0.0, early_s), NAP_S))
        if self.next_s is not None and early_s <= NAP_S:
            pool.spawn(self._send_one, plan, self.started_s + self.next_s)
            self.next_s = next(self.due, None)

    def _send_one(self, plan: Plan, due_s: float) -> None:
        sender = self.free.pop() if self.free else plan.open_sender(self.given.call_timeout)
        try:
            self._report(plan, *sender.send(due_s))
        finally:
            self.free.append(sender)

    def _report(self, plan: Plan, outcome: Outcome, failure: AuralServeError | None) -> None:
        _outcomes.append(outcome)
        answered = outcome.code == OK
        if answered:
            rows.add_frames(self.environment.stats, plan.mode.prompts, plan.num_frames)
        self.environment.events.request.fire(
            request_type="grpc",
            name=f"{plan.mode.prompts} {'answered' if answered else outcome.code}",
            response_time=1e3 * outcome.latency_s,
            response_length=0,
            exception=None if answered else RuntimeError(outcome.code),
            context={},
        )
