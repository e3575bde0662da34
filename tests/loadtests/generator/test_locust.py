"""Locust as its users know it: its flags and its form decide, ours are beside them, its report has frames and stages.

Real runs of locust, against a server of this process that answers at once, with a metrics page made of its own count.
"""

import csv
import json
import os
import re
import subprocess
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2_grpc

from auralsam2_client.calls.wire import CHANNEL_OPTIONS, ClipShape
from auralsam2_client.contract import STAGE_NAMES
from loadtests.generator.driving import ROOT
from loadtests.generator.instant_server import InstantService
from service.server.serving import free_ports
from tests.service.toy.running import eventually

T = 3
SUMMARY_ROW = re.compile(r"^(\w+) +(\w+(?: \w+)?) +(\d+) +\d+\(", re.MULTILINE)
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class CountingService(InstantService):
    """Answers at once, or refuses all. By its page the stage at place i takes i + 1.5 ms, of which it waits 0.5."""

    def __init__(self) -> None:
        super().__init__(ClipShape(T, 32))
        self.lock, self.count, self.full = threading.Lock(), 0, False

    def ModelInfer(self, request: object, context: object) -> object:  # noqa: N802
        if self.full:
            context.abort(grpc.StatusCode.UNAVAILABLE, "[queue_full] vggish: the queue is full")  # type: ignore[attr-defined]
        with self.lock:
            self.count += 1
        return super().ModelInfer(request, context)

    def page(self) -> str:
        count, lines = self.count, []
        for place, stage in enumerate(STAGE_NAMES):
            sums = {"request_success": 1, "request_duration_us": 1500 + 1000 * place, "queue_duration_us": 500}
            sums["compute_infer_duration_us"] = 900 + 1000 * place
            lines += [f'nv_inference_{name}{{model="{stage}"}} {each * count}' for name, each in sums.items()]
        return "\n".join(lines)


@dataclass(frozen=True)
class Served:
    service: CountingService
    url: str
    metrics_url: str


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    service = CountingService()

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(service.page().encode())

        def log_message(self, *words: object) -> None:
            pass

    server = grpc.server(ThreadPoolExecutor(4), options=CHANNEL_OPTIONS)
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with HTTPServer(("127.0.0.1", 0), Page) as pages:
        thread = threading.Thread(target=pages.serve_forever)
        thread.start()
        yield Served(service, f"127.0.0.1:{port}", f"http://127.0.0.1:{pages.server_port}/metrics")
        pages.shutdown()
        thread.join(10)
    server.stop(None).wait(5)


def locust(*words: object) -> list[str]:
    return [sys.executable, "-m", "loadtests.generator", *map(str, words)]


def environ() -> dict[str, str]:
    others = {name: value for name, value in os.environ.items() if not name.startswith("LOCUST_")}
    return others | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}


def run(*words: object) -> subprocess.CompletedProcess[str]:
    """Run locust without its web page, from a folder in which it finds no settings of anybody."""
    command = locust("--headless", *words)
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, env=environ(), cwd=ROOT / "loadtests", check=False
    )


@pytest.fixture(scope="module")
def report(served: Served, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Three users, one a second, for three seconds."""
    out = tmp_path_factory.mktemp("locust")
    flags = ("-u", 3, "-r", 1, "-t", "3s", "--source", "procedural:1", "--outcomes", out / "outcomes")
    reports = ("--html", out / "load.html", "--csv", out / "load", "--metrics-url", served.metrics_url)
    done = run("--host", f"http://{served.url}/", *flags, *reports)
    assert done.returncode == 0, done.stderr
    return done.stderr, out


def test_locusts_own_flags_decide_users_rate_and_time(report: tuple[str, Path]) -> None:
    words, out = report
    assert "Run time limit set to 3 seconds" in words
    assert "Ramping to 3 users at a rate of 1.00 per second" in words
    first: dict[str, float] = {}
    for line in (out / "outcomes").read_text().splitlines():
        outcome = json.loads(line)
        first.setdefault(outcome["id"].rpartition("-")[0], outcome["sent_s"])
    started = sorted(first.values())
    assert len(started) == 3
    # A busy machine makes pauses longer, not shorter.
    assert started[1] - started[0] > 0.5
    assert started[2] - started[0] > 1.5


def test_frames_a_second_and_stages_are_in_locusts_own_report(report: tuple[str, Path], served: Served) -> None:
    words, out = report
    count = served.service.count
    summary = {(kind, name): int(number) for kind, name, number in SUMMARY_ROW.findall(words)}
    assert summary["grpc", "audio answered"] == count > 0
    assert summary["frames", "audio"] == T * count
    page = (out / "load.html").read_text()
    with (out / "load_stats.csv").open() as file:
        # Locust's last look may be a second before the end.
        rows = {(row["Type"], row["Name"]): row for row in csv.DictReader(file)}
    clips, frames = rows["grpc", "audio answered"], rows["frames", "audio"]
    assert float(frames["Requests/s"]) == pytest.approx(T * float(clips["Requests/s"]), rel=1e-3)
    assert rows["", "Aggregated"]["Request Count"] == clips["Request Count"], "only clips count as requests"
    for place, stage in enumerate(STAGE_NAMES):
        means = {"stage": 1.5 + place, "queue": 0.5, "compute": 0.9 + place}
        for kind, mean in means.items():
            assert summary[kind, stage] == count
            assert float(rows[kind, stage]["Average Response Time"]) == pytest.approx(mean, abs=1e-3)
        assert f'"{stage}"' in page
        assert f"{stage:14} {means['stage']:8.1f} ms: queue 0.5, compute {means['compute']:.1f}" in words
    assert "frames a second answered (audio)" in words


def test_failures_are_the_exit_code(served: Served) -> None:
    served.service.full = True
    try:
        done = run("-H", served.url, "-t", "1s", "--metrics-url", "none", "--source", "procedural:1")
    finally:
        served.service.full = False
    assert done.returncode == 1
    assert "audio UNAVAILABLE" in done.stderr
    assert "frames a second" not in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        # Without a host there is the default; what stops this run is that it has no end.
        (
            ("--scenario", "ramp"),
            1,
            "error: The scenario 'ramp' changes the load over the run time, and none is given.",
        ),
        (("--scenario", "flood"), 2, "invalid choice: 'flood' (choose from"),
        (("--host", "https://localhost"), 2, "begins with https://, and the client speaks plain gRPC"),
        (("--host", "localhost"), 2, "The address 'localhost' has no port; give host:port"),
        (("--host", "127.0.0.1:{free}"), 1, "error: No service at 127.0.0.1:"),
    ],
)
def test_what_cannot_run_is_one_line_with_a_way_out(words: tuple[str, ...], code: int, says: str) -> None:
    (port,) = free_ports(1)
    done = run(*(word.format(free=port) for word in words))
    assert done.returncode == code
    assert says in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_help_shows_ours_beside_locusts_own() -> None:
    done = subprocess.run(locust("--help"), capture_output=True, text=True, env=environ(), cwd=ROOT, check=True)
    text = " ".join(done.stdout.split())
    for option in ("--host <host:port>", "--users", "--mode", "--scenario", "--wire", "--arrival-rate", "--outcomes"):
        assert option in text
    assert "default: 127.0.0.1:8001, where auralsam2 serve listens" in text


class Page:
    """Locust's web page, as a browser uses it."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, path: str, form: dict[str, object] | None = None) -> str:
        body = None if form is None else urllib.parse.urlencode(form).encode()
        try:
            with OPENER.open(f"{self.url}{path}", body, timeout=60) as reply:
                text: str = reply.read().decode()
                return text
        except urllib.error.URLError:
            return ""

    def swarm(self, **fields: object) -> dict[str, Any]:
        form = {"user_count": 2, "spawn_rate": 2, "run_time": "1s"} | fields
        found: dict[str, Any] = json.loads(self.ask("/swarm", form))
        return found

    def has_ended(self, mode: str) -> bool:
        """Whether a run in this mode is over, and its frames and stages are those of its clips."""
        found = json.loads(self.ask("/stats/requests"))
        rows = {(row["method"], row["name"]): row["num_requests"] for row in found["stats"]}
        clips = rows.get(("grpc", f"{mode} answered"), 0)
        counted: bool = clips > 0 and rows["frames", mode] == T * clips and rows.get(("stage", "hiera")) == clips
        return counted and bool(found["state"] == "stopped")


def test_the_web_form_decides_too_and_says_what_it_cannot_take(served: Served) -> None:
    (port,) = free_ports(1)
    words = ("--web-host", "127.0.0.1", "--web-port", port, "--metrics-url", served.metrics_url)
    process = subprocess.Popen(
        locust(*words), env=environ(), cwd=ROOT / "loadtests", stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL
    )
    page = Page(f"http://127.0.0.1:{port}")
    try:
        eventually(lambda: page.ask("/") != "", 60)
        form = page.ask("/")
        for shown in ('"arrival_rate"', '"scenario"', '"wire"', '"host": "127.0.0.1:8001"'):
            assert shown in form, shown
        for fields, says in (
            ({"host": "localhost"}, "The address 'localhost' has no port"),
            ({"host": served.url, "arrival_rate": "many"}, "arrival_rate = many; must be 0"),
            ({"host": served.url, "scenario": "ramp", "run_time": ""}, "changes the load over the run time"),
        ):
            answer = page.swarm(**fields)
            assert answer["success"] is False
            assert says in answer["message"]
        # A shape of ours, by the form's choice, and then locust's own users again.
        for scenario, mode, message in (("spike", "audio", "using shape class"), ("steady", "box", "Swarming started")):
            answer = page.swarm(host=served.url, scenario=scenario, mode=mode, source="procedural:1")
            assert answer["success"] is True, answer
            assert message in answer["message"]
            eventually(partial(page.has_ended, mode), 60)
    finally:
        process.terminate()
        assert process.wait(30) in (0, -15)
