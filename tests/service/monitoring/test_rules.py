"""Rules and dashboard at rest: promtool's unit tests of the rules, and the JSON that the generator writes."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from service.monitoring import dashboard
from service.monitoring.local import FOLDER, write_configuration

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
