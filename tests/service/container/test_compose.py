"""compose.yaml is held to its word: fences, time to drain, settings that exist, versions that stand once."""

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from export.settings import ExportSettings
from service.commands.cli import app
from service.server.config import ServerConfig
from service.server.stopping import SHUTDOWN_S
from tests.service.container.dockerfile import read_dockerfile
from tests.service.container.tools import tool

ROOT = Path(__file__).resolve().parents[3]
CONTAINER = ROOT / "service" / "container"
ENTRYPOINT = CONTAINER / "entrypoint.sh"


def dockerfile() -> str:
    return (ROOT / "Dockerfile").read_text()


SERVERS, BUILDERS = ("server-cpu", "server-gpu"), ("build-cpu", "build-gpu")
WATCHERS = ("prometheus", "grafana")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
    return loaded


def seconds(text: str) -> int:
    return int(text[:-1]) * {"s": 1, "m": 60}[text[-1]]


def test_compose_keeps_to_its_schema() -> None:
    done = tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", str(ROOT / "compose.yaml"))
    assert done.returncode == 0, done.stdout


def test_services_and_profiles(compose: dict[str, Any]) -> None:
    profiles = {name: service["profiles"] for name, service in compose["services"].items()}
    assert profiles == {
        "build-cpu": ["cpu"],
        "build-gpu": ["gpu"],
        "server-cpu": ["cpu"],
        "server-gpu": ["gpu"],
        "prometheus": ["cpu", "gpu"],
        "grafana": ["cpu", "gpu"],
    }
    for name in WATCHERS:
        assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+\.\d+", compose["services"][name]["image"])
    for kind in ("cpu", "gpu"):
        build = compose["services"][f"build-{kind}"]
        assert build["build"]["target"] == kind
        assert build["image"] == compose["services"][f"server-{kind}"]["image"]
        assert kind in read_dockerfile(dockerfile()).stages


@pytest.mark.parametrize("name", [*SERVERS, *BUILDERS, *WATCHERS])
def test_every_container_is_fenced(compose: dict[str, Any], name: str) -> None:
    service = compose["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert "privileged" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["user"].split(":")[0] not in ("0", "root")
    assert service["init"] is True
    assert all(entry.startswith("/tmp:size=") for entry in service["tmpfs"])
    assert service["tmpfs"]
    for published in service.get("ports", []):
        assert published.startswith("127.0.0.1:")
    if name not in BUILDERS:
        assert "noexec" in service["tmpfs"][0]
        assert {"test", "interval", "timeout", "retries"} <= set(service["healthcheck"])
        assert service["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", SERVERS)
def test_a_server(compose: dict[str, Any], name: str) -> None:
    service = compose["services"][name]
    assert service["command"] == "serve"
    assert service["volumes"] == ["models:/models:ro", "cache:/var/cache/auralsam2"]
    assert service["shm_size"] == "1gb"
    assert service["ports"] == ["127.0.0.1:8001:8001"]
    assert service["healthcheck"]["test"] == ["CMD", "python", "-m", "service.container.healthcheck"]
    (builder,) = service["depends_on"]
    assert service["depends_on"][builder] == {"condition": "service_completed_successfully"}
    assert compose["services"][builder]["volumes"] == ["models:/models"]
    assert compose["services"][builder]["command"] == "build"
    # All that names the build is the same for both, or the server would look for another one.
    mine, theirs = service["environment"], compose["services"][builder]["environment"]
    served_alone = {"AURALSAM2_METRICS_HOST", "AURALSAM2_EXPORTER_PORT"}
    assert {name: value for name, value in mine.items() if name not in served_alone} == theirs


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_has_time_to_drain(compose: dict[str, Any], name: str) -> None:
    service = compose["services"][name]
    drain_s = float(service["environment"]["AURALSAM2_DRAIN_TIMEOUT_S"])
    # Launcher.stop at its longest: idle, SIGTERM, then two patiences of 10 s for what will not go.
    assert seconds(service["stop_grace_period"]) >= drain_s + SHUTDOWN_S + 20 + 10
    settings = {key.removeprefix("AURALSAM2_").lower() for key in service["environment"]}
    known = set(ServerConfig.__dataclass_fields__) | {"metrics_host", "target"}
    options = set(re.findall(r"EXPORT_OPTIONS=\"(.*)\"", ENTRYPOINT.read_text())[0].split())
    assert {key for key in settings if not key.startswith("export_")} <= known
    assert {key.removeprefix("export_") for key in settings if key.startswith("export_")} == options


def test_the_options_of_the_entry_point_are_those_of_export() -> None:
    options = set(re.findall(r"EXPORT_OPTIONS=\"(.*)\"", ENTRYPOINT.read_text())[0].split())
    # `--capability` is given once for each; `--report` changes nothing of a build.
    called = {"capabilities": "capability"}
    known = {called.get(field.name, field.name) for field in fields(ExportSettings)}
    assert options == known - {"target", "report"}


def test_each_option_of_the_entry_point_is_one_of_the_command() -> None:
    options = set(re.findall(r"EXPORT_OPTIONS=\"(.*)\"", ENTRYPOINT.read_text())[0].split())
    command = get_command(app).commands["export"]  # type: ignore[attr-defined]
    assert {f"--{option.replace('_', '-')}" for option in options} <= {
        name for parameter in command.params for name in parameter.opts
    }


@pytest.mark.parametrize("name", ["build-gpu", "server-gpu"])
def test_gpus_are_asked_for(compose: dict[str, Any], name: str) -> None:
    (device,) = compose["services"][name]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}
    assert "deploy" not in compose["services"][name.replace("gpu", "cpu")]


def test_versions_stand_once(compose: dict[str, Any]) -> None:
    arguments = compose["services"]["build-gpu"]["build"]["args"]
    text = dockerfile()
    default = re.fullmatch(r"\$\{TRITON_VERSION:-(.+)\}", arguments["TRITON_VERSION"])
    assert default is not None
    assert set(re.findall(r"ARG TRITON_VERSION=(.+)", text)) == {default[1]}
    # The page of operations says which one that is.
    assert f"| `{default[1]}-py3` (pinned) |" in (ROOT / "docs" / "operations.md").read_text()
    # TensorRT's is read from the image: nothing is written down that could be wrong.
    assert arguments["TENSORRT_VERSION"] == "${TENSORRT_VERSION:-}"
    assert re.findall(r"ARG TENSORRT_VERSION(.*)", text) == ["="]
    assert arguments["TRITON_DIGEST"] == "${TRITON_DIGEST:-}"


def test_metrics_stay_in_their_network(compose: dict[str, Any]) -> None:
    assert compose["networks"]["metrics"] == {"internal": True}
    published = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert sorted(set(published)) == ["127.0.0.1:3000:3000", "127.0.0.1:8001:8001"]
    assert compose["services"]["prometheus"]["networks"] == ["metrics"]
    for name in SERVERS:
        assert compose["services"][name]["networks"]["metrics"] == {"aliases": ["server"]}
    monitoring = CONTAINER.parent / "monitoring"
    scraped = yaml.safe_load((monitoring / "prometheus.yml").read_text())
    (job,) = scraped["scrape_configs"]
    assert job["file_sd_configs"] == [{"files": ["targets.json"]}]
    (listed,) = yaml.safe_load((monitoring / "targets.json").read_text())
    exporter_port = compose["services"]["server-cpu"]["environment"]["AURALSAM2_EXPORTER_PORT"]
    assert listed["targets"] == [f"server:{exporter_port}"]
    mounted = {volume.split(":")[1] for volume in compose["services"]["prometheus"]["volumes"]}
    assert {f"/etc/prometheus/{name}" for name in ("targets.json", *scraped["rule_files"])} <= mounted
    (source,) = yaml.safe_load((monitoring / "grafana-datasource.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"


def test_mounted_files_and_volumes_exist(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            if source.startswith("./"):
                assert (ROOT / source).is_file()
                assert volume.endswith(":ro")
            else:
                assert source in compose["volumes"]
        for network in service["networks"]:
            assert network in compose["networks"]
