"""The supervisor's own metrics page, read as Prometheus reads it."""

import os
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from auralsam2_client.errors import ConfigError, ServerUnavailable
from service.door.front_door import FrontDoor
from service.monitoring.metrics import total
from service.server.config import ServerConfig
from service.server.serving import free_ports
from service.supervision import exporter
from service.supervision.exporter import Exporter, SupervisorCollector, build_labels
from tests.service.toy import build_folder


@dataclass
class Watched:
    config: ServerConfig
    ready: bool = True
    server_pid: int | None = None
    degraded: str = ""
    num_damaged_models: int = 3
    door: FrontDoor | None = None
    mark: str | None = "auralsam2_no_such_run_"
    counts: dict[str, int] = field(default_factory=dict)
    golden_answers: dict[tuple[str, str], int] = field(
        default_factory=lambda: {("audio", "right"): 5, ("box", "wrong"): 1}
    )


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    grpc_port, metrics_port, exporter_port = free_ports(3)
    config = ServerConfig(
        build=build_folder.write(tmp_path / "build"),
        grpc_port=grpc_port,
        metrics_port=metrics_port,
        exporter_port=exporter_port,
    )
    return Watched(config, counts={"process": 2})


def samples(watched: Watched) -> dict[str, dict[frozenset[tuple[str, str]], float]]:
    url = f"http://127.0.0.1:{watched.config.exporter_port}/metrics"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=5) as reply:
        text = reply.read().decode()
    found: dict[str, dict[frozenset[tuple[str, str]], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
    return found


def test_the_page_says_what_is_served_and_how_it_is(watched: Watched) -> None:
    watched.server_pid = os.getpid()
    with Exporter(watched):
        found = samples(watched)
        watched.ready, watched.degraded = False, "6 faults in 600 s"
        later = samples(watched)
    assert later["auralsam2_ready"] == {frozenset(): 0}
    assert (found["auralsam2_degraded"], later["auralsam2_degraded"]) == ({frozenset(): 0}, {frozenset(): 1})
    assert found["auralsam2_ready"] == {frozenset(): 1}
    ((labels, one),) = found["auralsam2_build_info"].items()
    assert one == 1
    assert {("preset", "toy"), ("num_frames", "2"), ("precision", "float32")} <= labels
    assert found["auralsam2_restarts_total"][frozenset({("reason", "process")})] == 2
    assert found["auralsam2_restarts_total"][frozenset({("reason", "canary")})] == 0
    assert found["auralsam2_damaged_models_total"] == {frozenset(): 3}
    answers = {
        (dict(labels)["path"], dict(labels)["result"]): num
        for labels, num in found["auralsam2_golden_answers_total"].items()
    }
    assert (answers["audio", "right"], answers["box", "wrong"], answers["audio", "wrong"]) == (5, 1, 0)
    assert found["auralsam2_memory_bytes"][frozenset({("process", "server")})] > 10e6
    assert found["auralsam2_open_files"][frozenset({("process", "server")})] > 3
    assert found["auralsam2_shared_memory_bytes"] == {frozenset(): 0}
    assert found["auralsam2_server_up"] == {frozenset(): 0}
    assert "auralsam2_frames_per_second" not in found, "no server, no rate"
    with pytest.raises(OSError, match="refused"):
        samples(watched)


def test_a_taken_port_is_said_with_the_way_out(watched: Watched) -> None:
    with Exporter(watched), pytest.raises(ConfigError, match=r"exporter_port.*--exporter-port"), Exporter(watched):
        pass


def test_the_rate_is_of_the_last_window_and_restarts_with_the_server(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    collector = SupervisorCollector(watched)
    pages = iter([(0, 100), (4, 220), (14, 320), (15, 10), (17, 40), (18, None)])
    now = [0.0]

    def page(url: str, *, timeout_s: float) -> str:
        now[0], frames = next(pages)  # type: ignore[assignment]
        if frames is None:
            raise ServerUnavailable("gone")
        return f'auralsam2_frames_total{{prompts="audio"}} {frames - 3}\nauralsam2_frames_total{{prompts="box"}} 3\n'

    monkeypatch.setattr(exporter, "read_page", page)
    monkeypatch.setattr(exporter.time, "monotonic", lambda: now[0])
    rates = [collector._frames_per_second() for _ in range(6)]
    assert rates == [None, 30.0, 10.0, None, 15.0, None]


def test_samples_of_one_name_add_up() -> None:
    assert total('a_total{x="1"} 2\na_total{x="2"} 3\nab_total{x="2"} 7\n', "a_total") == 5


def test_the_artefact_changes_with_the_manifest(watched: Watched) -> None:
    build = watched.config.build
    before = build_labels(build)
    build_folder.write_manifest(build, preset="other")
    after = build_labels(build)
    assert before["artefact"] != after["artefact"]
    assert after["preset"] == "other"
