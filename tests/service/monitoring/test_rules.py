"""Rules and dashboard at rest: promtool's unit tests of the rules, and the JSON that the generator writes."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from service.monitoring import dashboard, local
from service.monitoring.local import FOLDER, write_configuration

ROOT = Path(__file__).resolve().parents[3]
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed: apt-get install prometheus"
)


def promtool(*words: str | Path) -> str:
    done = subprocess.run(["promtool", *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_promtool
def test_promtool_finds_no_fault_and_its_unit_tests_pass() -> None:
    promtool("check", "config", FOLDER / "prometheus.yml")
    promtool("test", "rules", FOLDER / "rules_test.yml")


@needs_promtool
def test_the_unit_tests_can_fail(tmp_path: Path) -> None:
    for name in ("recording_rules.yml", "rules_test.yml"):
        shutil.copy(FOLDER / name, tmp_path)
    text = (FOLDER / "alert_rules.yml").read_text()
    (tmp_path / "alert_rules.yml").write_text(
        text.replace("> 1.1 * auralsam2:memory_bytes", "> 9 * auralsam2:memory_bytes")
    )
    done = subprocess.run(["promtool", "test", "rules", tmp_path / "rules_test.yml"], capture_output=True, check=False)
    assert done.returncode != 0


def test_every_alert_is_tested_and_says_what_to_do() -> None:
    tested = (FOLDER / "rules_test.yml").read_text()
    (group,) = yaml.safe_load((FOLDER / "alert_rules.yml").read_text())["groups"]
    for rule in group["rules"]:
        assert f"alertname: {rule['alert']}" in tested or f'alertname="{rule["alert"]}"' in tested, rule["alert"]
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["description"]
        assert rule["labels"]["severity"] in ("page", "ticket")


def test_a_local_configuration_differs_in_targets_and_pace_alone(tmp_path: Path) -> None:
    path = write_configuration(tmp_path, ["127.0.0.1:1", "127.0.0.1:2"], scrape_interval="1s")
    shipped, local = (yaml.safe_load(file.read_text()) for file in (FOLDER / "prometheus.yml", path))
    assert set(local.pop("global").values()) == {"1s"}
    shipped.pop("global")
    assert local == shipped
    (listed,) = json.loads((tmp_path / "targets.json").read_text())
    assert listed["targets"] == ["127.0.0.1:1", "127.0.0.1:2"]


def test_the_dashboard_is_the_one_that_the_generator_writes() -> None:
    assert dashboard.PATH.read_text() == dashboard.dashboard_json(), "run: make dashboard"


def test_the_dashboard_has_every_query_and_no_absolute_name() -> None:
    record = json.loads(dashboard.PATH.read_text())
    found = [target["expr"] for panel in record["panels"] for target in panel.get("targets", [])]
    assert found == [query for _, query in dashboard.queries()]
    assert record["uid"] == "auralsam2"
    known = set(re.findall(r'record: "?([\w:]+)', (FOLDER / "recording_rules.yml").read_text()))
    for query in found:
        assert set(re.findall(r"auralsam2:[\w:]+", query)) <= known, query


def test_targets_and_ports_are_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(local.shutil, "which", lambda program: f"/bin/{program}")
    monkeypatch.setattr(local.os, "execv", lambda program, words: started.append(words) or 0)
    out = ["--out", str(tmp_path)]
    for words, targets, port in (
        ([], ["127.0.0.1:8003"], 9090),
        (["--exporter-port", "8013"], ["127.0.0.1:8013"], 9090),
        (["--target", "a:8003", "--target", "http://[::1]:8004", "--port", "9091"], ["a:8003", "[::1]:8004"], 9091),
    ):
        assert local.main([*words, *out]) == 0
        (listed,) = json.loads((tmp_path / "targets.json").read_text())
        assert listed["targets"] == targets
        assert f"--web.listen-address=127.0.0.1:{port}" in started[-1]


@pytest.mark.parametrize("words", [["--target", "server"], ["--exporter-port", "0"], ["--port", "99999"]])
def test_a_target_or_port_that_cannot_be_names_what_can(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        local.main(words)
    assert f"argument {words[0]}: {words[1]!r}; must be" in capsys.readouterr().err


def make(target: str, *variables: str) -> str:
    """What make would run, environments being there."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")} | {
        "HOST": "shells-own"
    }
    ready = ("-o", "setup", "-o", "build/compact-256-t5/manifest.json")
    done = subprocess.run(
        ["make", "-n", *ready, target, *variables], cwd=ROOT, env=environ, capture_output=True, text=True, check=True
    )
    return " ".join(done.stdout.replace("\\\n", " ").split())


def test_make_passes_its_variables_on() -> None:
    assert make("monitoring", "TARGETS=a:1 b:2", "PROMETHEUS_PORT=9091").endswith(
        "service.monitoring.local --target a:1 --target b:2 --port 9091"
    )
    assert make("monitoring", "EXPORTER_PORT=8013").endswith("service.monitoring.local --exporter-port 8013")
    assert make("monitoring").endswith("service.monitoring.local")
    served = make("loadtest", "USERS=8", "SPAWN_RATE=2", "DURATION=60s", "WIRE=jpeg")
    assert "--out out/load --run-time 60s --users 8 --spawn-rate 2 --wire jpeg" in served
    assert "loadtests.overload" in served
    assert "shells-own" not in served
    alone = make("loadtest", "USERS=8", "RUN_TIME=5m", "HOST=a:1")
    assert "--headless --host a:1 --run-time 5m --users 8 --only-summary" in alone
    assert "loadtests.run" not in alone
