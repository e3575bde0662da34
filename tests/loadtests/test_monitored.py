"""A supervised server under load, watched by a real Prometheus: what the queries say is what the callers counted.

One server and one Prometheus for all; the tests run in the order in which they stand, the last one kills the server.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from auralsam2_client.calls.client import Client
from loadtests.generator.driving import Load, drive
from loadtests.overload import judge, measure
from loadtests.run import account
from service.builds.golden import Golden
from service.monitoring.dashboard import queries
from service.monitoring.local import FOLDER, command, write_configuration
from service.server.config import ServerConfig
from service.server.serving import free_ports
from service.supervision.exporter import processes, shared_memory_bytes
from service.supervision.supervisor import Supervisor
from tests.service.toy.running import eventually

pytestmark = [
    pytest.mark.skipif(
        shutil.which("prometheus") is None,
        reason="prometheus is not installed: apt-get install prometheus (.ci/run does)",
    ),
]
FRAMES = 5
LOAD_S, WINDOW_S = 24.0, 16
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass
class Watch:
    """A supervised server and its Prometheus."""

    supervisor: Supervisor
    thread: threading.Thread
    prometheus: str

    def ask(self, path: str, **parameters: str) -> Any:
        url = f"{self.prometheus}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with OPENER.open(url, timeout=10) as reply:
            record = json.loads(reply.read())
        assert record["status"] == "success", record
        return record["data"]

    def query(self, expression: str, at: float | None = None) -> list[Any]:
        given = {"query": expression} if at is None else {"query": expression, "time": f"{at:.3f}"}
        found: list[Any] = self.ask("query", **given)["result"]
        return found


@pytest.fixture(scope="module")
def watch(compact_build: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watch]:
    folder = tmp_path_factory.mktemp("prometheus")
    grpc_port, metrics_port, exporter_port, port = free_ports(4)
    config = ServerConfig(
        build=compact_build,
        grpc_port=grpc_port,
        metrics_port=metrics_port,
        exporter_port=exporter_port,
        restart_limit=0,
        poll_interval_s=0.1,
    )
    lines: list[str] = []
    supervisor = Supervisor(config, sink=lines.append)
    thread = threading.Thread(target=supervisor.run)
    thread.start()
    configuration = write_configuration(folder, [f"127.0.0.1:{exporter_port}"], scrape_interval="1s")
    program = shutil.which("prometheus")
    assert program is not None
    watcher = subprocess.Popen(
        command(program, configuration, folder / "data", port), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        eventually(lambda: supervisor.ready or not thread.is_alive(), 120)
        assert supervisor.ready, lines[-5:]
        found = Watch(supervisor, thread, f"http://127.0.0.1:{port}")
        eventually(lambda: _up(found) == 1, 60)
        yield found
    finally:
        watcher.terminate()
        watcher.wait(20)
        supervisor.request_stop()
        thread.join(60)
    assert not thread.is_alive()


def _up(found: Watch) -> int:
    try:
        return sum(int(sample["value"][1]) for sample in found.query("up"))
    except OSError:
        return 0


@pytest.fixture(scope="module")
def steady(watch: Watch, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """A closed loop that keeps the server busy; the outcomes of all its requests."""
    out = tmp_path_factory.mktemp("steady")
    return drive(watch.supervisor.config.grpc_url, Load(LOAD_S, users=3), out)


def test_the_fps_of_prometheus_is_that_of_the_callers(watch: Watch, steady: list[Any]) -> None:
    """The recorded rule's own expression, over a window within the load, against answers counted by the callers."""
    rules = yaml.safe_load((FOLDER / "recording_rules.yml").read_text())
    (expression,) = (
        rule["expr"]
        for group in rules["groups"]
        for rule in group["rules"]
        if rule["record"] == "auralsam2:frames:rate1m"
    )
    assert "[1m]" in expression
    first, last = min(o.sent_s for o in steady), max(o.sent_s for o in steady)
    ratios = []
    # A clip more or less at the edges of a window is 1 %; several windows tell that from a wrong count.
    for late in range(5):
        end = last - late
        assert end - WINDOW_S > first
        ((_, value),) = [sample["value"] for sample in watch.query(expression.replace("1m", f"{WINDOW_S}s"), end)]
        # `rate` looks at the samples within the window, and takes what lies between them for the whole.
        answered = sum(o.code == "OK" and end - WINDOW_S <= o.done_s < end for o in steady)
        ratios.append(float(value) / (FRAMES * answered / WINDOW_S))
    assert sum(ratios) / len(ratios) == pytest.approx(1, abs=0.02), ratios


def test_the_server_counted_each_answered_frame_once(watch: Watch, steady: list[Any]) -> None:
    answered = sum(outcome.code == "OK" for outcome in steady)
    assert account(steady)["ended"] == answered > 0

    def counted() -> bool:
        ((_, value),) = [sample["value"] for sample in watch.query("sum(auralsam2_frames_total)")]
        return float(value) == FRAMES * answered

    eventually(counted, 10)


@pytest.fixture(scope="module")
def overload(watch: Watch, steady: list[Any], tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    config, out = watch.supervisor.config, tmp_path_factory.mktemp("overload")
    return measure(config.grpc_url, config.metrics_url, FRAMES, out, seconds=8, places=8)


def test_at_twice_the_rate_the_excess_is_refused_and_nothing_is_lost(overload: list[Any]) -> None:
    """What is counted. Rates and times need half a minute of a quiet machine: `make loadtest` judges them, by the same
    `judge`, and fails where they do not hold.
    """
    *_, each_ended_once, both_sides_agree = judge(overload)
    assert each_ended_once.holds, each_ended_once
    assert both_sides_agree.holds, both_sides_agree
    codes = overload[2].summary.by_code
    assert set(codes) == {"OK", "UNAVAILABLE"}


@pytest.mark.usefixtures("overload")
def test_every_rule_is_well_and_records_something(watch: Watch) -> None:
    groups = watch.ask("rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) == sum(
        len(group["rules"])
        for name in ("recording_rules.yml", "alert_rules.yml")
        for group in yaml.safe_load((FOLDER / name).read_text())["groups"]
    )
    for rule in rules:
        assert rule["health"] == "ok", rule
        if rule["type"] == "recording":
            assert watch.query(rule["name"]), rule["name"]


@pytest.mark.usefixtures("overload")
@pytest.mark.parametrize(("panel", "query"), queries())
def test_every_panel_shows_something(panel: str, query: str, watch: Watch) -> None:
    found = watch.query(query.replace("$__rate_interval", "1m"))
    assert found, panel
    assert all(sample["value"][1] != "NaN" for sample in found), (panel, found)


@pytest.mark.usefixtures("overload")
def test_after_the_storm_memory_files_and_places_are_as_before(watch: Watch, tmp_path: Path) -> None:
    """The soak in small: after the warm-up of the tests above, a while of load leaves nothing behind."""
    supervisor = watch.supervisor

    def held() -> tuple[int, int, int, int]:
        found = processes(supervisor.server_pid)
        assert supervisor.mark is not None
        return (
            sum(use.resident_bytes for use in found),
            sum(use.open_files for use in found),
            len(found),
            shared_memory_bytes(supervisor.mark),
        )

    url = supervisor.config.grpc_url
    # Pools of shared memory grow in steps, with what happens to be in flight, until they hold the most there was.
    rounds = [held()]
    while len(rounds) < 2 or rounds[-1][1:] != rounds[-2][1:]:
        assert len(rounds) < 8, rounds
        drive(url, Load(3, users=2), tmp_path)
        rounds.append(held())
    before = rounds[-1]
    drive(url, Load(6, users=2), tmp_path)
    if held()[3] > before[3]:
        # More was in flight at once than in any round before, and the pool grew. What leaks grows every time.
        before = held()
        drive(url, Load(6, users=2), tmp_path)
    # Connections of callers that have gone are closed a moment later.
    eventually(lambda: held()[1:] == before[1:], 10)
    assert held()[0] <= 1.02 * before[0]
    eventually(lambda: float(watch.query("sum(auralsam2_clips_in_flight)")[0]["value"][1]) == 0, 10)


def test_when_the_server_is_killed_the_alert_fires(watch: Watch, compact_build: Path) -> None:
    """The supervisor of this test may not restart it: the server's page is gone, and soon the supervisor's, too."""
    golden = Golden.load(compact_build)
    with Client(watch.supervisor.config.grpc_url) as client:
        client.infer(golden.frames, golden.audio)
    pid = watch.supervisor.server_pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)

    def firing() -> bool:
        alerts = watch.ask("alerts")["alerts"]
        return any(a["labels"]["alertname"] == "AuralSAM2Down" and a["state"] == "firing" for a in alerts)

    eventually(firing, 40)


def test_the_generator_offers_twenty_times_what_the_service_bears(
    watch: Watch, overload: list[Any], tmp_path: Path
) -> None:
    """Against a server that answers at once, on the same cores; the service of the tests above is gone by now."""
    (port,) = free_ports(1)
    server = subprocess.Popen(
        [sys.executable, "-m", "loadtests.generator.instant_server", "--port", str(port)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        outcomes = drive(f"127.0.0.1:{port}", Load(5, users=8), tmp_path)
    finally:
        server.terminate()
        server.wait(10)
        if server.stdout is not None:
            server.stdout.close()
    first, last = min(o.sent_s for o in outcomes), max(o.done_s for o in outcomes)
    offered = len(outcomes) / (last - first)
    assert all(outcome.code == "OK" for outcome in outcomes)
    assert offered >= 20 * max(phase.summary.answered_clips_per_s for phase in overload)
