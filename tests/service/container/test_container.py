"""The container without Docker: its entry point is run as it is.

What a container surrounds the entry point with is set up around the script: a repository and a file system that cannot
be written are mounts in a namespace of its own, who it runs as and which cards it sees are programs first on PATH.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from auralsam2_client.calls.client import Client
from export.gates.sample_clip import sample_audio, sample_frames
from service.monitoring.metrics import fetch, in_flight
from service.server.serving import free_ports
from tests.service.container.tools import tool
from tests.service.toy.running import eventually

ROOT = Path(__file__).resolve().parents[3]
CONTAINER = ROOT / "service" / "container"
ENTRYPOINT = CONTAINER / "entrypoint.sh"
TOOLS = Path(sys.executable).parent
USAGE, IS_ROOT, NO_BUILD, STOPPED = 64, 77, 78, 143

# In place of the command line tool: says what it was called with; as `export` it makes a build, or what it is told to.
STUB = """#!/usr/bin/env bash
echo "$*" >> "$STUB_LOG"
if [[ $1 == engines ]]; then
    echo "built      hiera"
    case ${STUB_ENGINES:-good} in
        bad) echo "error: no card" >&2; exit 3 ;;
        slow) mkdir "$3/.engines-1"; sleep 1; rmdir "$3/.engines-1" ;;
        endless) mkdir "$3/.engines-2"; sleep 300 ;;
    esac
fi
[[ $1 == serve ]] && echo "ready timeout ${AURALSAM2_READY_TIMEOUT_S:-of the server}"
[[ $1 == export ]] || exit 0
out=${!#}
partial=$(dirname "$out")/.$(basename "$out").partial-$$
mkdir -p "$partial"
echo "exported   one of four"
case ${STUB_EXPORT:-good} in
    good) ;;
    slow) sleep 1 ;;
    endless) sleep 300 & sleep 300 ;;
    bad) echo "error: no space" >&2; exit 3 ;;
esac
touch "$partial/manifest.json"
mv "$partial" "$out"
"""
CARDS = {
    "none": "exit 9",
    "one": "echo 'NVIDIA L4, 8.9'",
    "twins": "echo 'NVIDIA L4, 8.9'; echo 'NVIDIA L4, 8.9'",
    "several": "echo 'NVIDIA L4, 8.9'; echo 'NVIDIA H200, 9.0'",
}


def program(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text if text.startswith("#!") else f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@dataclass(frozen=True)
class Surroundings:
    """A volume, and programs that stand first on PATH."""

    folder: Path

    @property
    def volume(self) -> Path:
        return self.folder / "models"

    @property
    def calls(self) -> list[str]:
        """What the stand-in of the command line tool was called with."""
        log = self.folder / "calls"
        return log.read_text().splitlines() if log.exists() else []

    @property
    def builds(self) -> list[Path]:
        return sorted(path for path in self.volume.iterdir() if path.is_dir())

    def environment(self, **changed: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AURALSAM2_")}
        return {
            **kept,
            "PATH": os.pathsep.join([str(self.folder / "bin"), str(TOOLS), os.environ["PATH"]]),
            "STUB_LOG": str(self.folder / "calls"),
            "AURALSAM2_VOLUME": str(self.volume),
            **changed,
        }

    def start(self, *arguments: str, before: tuple[str, ...] = (), **changed: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*before, str(ENTRYPOINT), *arguments],
            env=self.environment(**changed),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *arguments: str, before: tuple[str, ...] = (), **changed: str) -> tuple[int, str]:
        process = self.start(*arguments, before=before, **changed)
        output, _ = process.communicate(timeout=60)
        return process.returncode, output


@pytest.fixture
def around(tmp_path: Path) -> Surroundings:
    """Not root, no GPU, and the stand-in of the command line tool."""
    around = Surroundings(tmp_path)
    around.volume.mkdir()
    program(tmp_path / "bin" / "auralsam2", STUB)
    program(tmp_path / "bin" / "id", "echo 1000")
    program(tmp_path / "bin" / "nvidia-smi", CARDS["none"])
    return around


def mounted(*steps: str) -> tuple[str, ...]:
    """Run a command in a mount namespace of its own, after these steps."""
    before = ("unshare", "--map-root-user", "--mount", "sh", "-ec", "\n".join([*steps, 'exec "$@"']), "sh")
    tried = subprocess.run([*before, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"no mount namespaces here: {tried.stderr.strip()}")
    return before


def read_only(path: Path) -> str:
    return f"mount --bind '{path}' '{path}'; mount -o remount,bind,ro '{path}'"


def one_line(output: str) -> str:
    """The message of a refusal: it is one line."""
    lines = output.splitlines()
    assert len(lines) == 1, output
    assert lines[0].startswith("entrypoint: ")
    return lines[0]


# The entry point: what it refuses.


def test_root_is_refused(around: Surroundings) -> None:
    program(around.folder / "bin" / "id", "echo 0")
    status, output = around.run()
    assert status == IS_ROOT
    assert "refusing to run as root" in one_line(output)
    assert "AURALSAM2_ALLOW_ROOT=1" in output
    assert around.calls == []
    assert around.run(AURALSAM2_ALLOW_ROOT="1")[0] == 0
    # The variable is documented where people look: in the script's own head.
    assert "AURALSAM2_ALLOW_ROOT" in ENTRYPOINT.read_text().split("set -euo pipefail")[0]


def test_an_unknown_target_is_refused(around: Surroundings) -> None:
    status, output = around.run(AURALSAM2_TARGET="tpu")
    assert status == USAGE
    assert "AURALSAM2_TARGET=tpu is unknown; choose cpu, tensorrt or onnx-gpu." in one_line(output)
    assert around.calls == []


def test_an_unknown_command_is_refused(around: Surroundings) -> None:
    status, output = around.run("doctor")
    assert status == USAGE
    assert "'doctor'" in one_line(output)


def test_an_unknown_option_of_export_is_refused(around: Surroundings) -> None:
    status, output = around.run(AURALSAM2_EXPORT_PRESETT="compact")
    assert status == USAGE
    assert "AURALSAM2_EXPORT_PRESETT" in one_line(output)
    assert "num_frames" in output
    assert around.calls == []


def test_no_build_and_a_volume_that_cannot_be_written(around: Surroundings) -> None:
    status, output = around.run(before=mounted(read_only(around.volume)))
    assert status == NO_BUILD
    line = one_line(output)
    assert "manifest.json is missing" in line
    assert f"cannot write to {around.volume}" in line
    assert "Mount it writable" in line
    assert around.calls == []


def test_no_build_and_no_volume(around: Surroundings) -> None:
    status, output = around.run(AURALSAM2_VOLUME=str(around.folder / "absent"))
    assert status == NO_BUILD
    assert "absent does not exist" in one_line(output)


def test_serve_makes_no_build(around: Surroundings) -> None:
    status, output = around.run("serve")
    assert status == NO_BUILD
    assert "make it with the command build" in one_line(output)
    assert around.calls == []


@pytest.mark.parametrize(
    ("cards", "words"), [("none", "none is seen"), ("several", "NVIDIA H200, 9.0; NVIDIA L4, 8.9")]
)
def test_a_gpu_target_wants_one_kind_of_card(around: Surroundings, cards: str, words: str) -> None:
    program(around.folder / "bin" / "nvidia-smi", CARDS[cards])
    status, output = around.run(AURALSAM2_TARGET="tensorrt")
    assert status == NO_BUILD
    assert words in one_line(output)
    assert around.calls == []


# The entry point: what it makes.


def test_a_missing_build_is_made_once_and_served(around: Surroundings) -> None:
    status, output = around.run()
    assert status == 0
    (build,) = around.builds
    assert around.calls == [f"export --out {build}", f"serve --build {build} --host 0.0.0.0"]
    # Progress: what begins, export's own lines, how long it took.
    assert f"making {build} for the CPU" in output
    assert "exported   one of four" in output
    assert re.search(r"made .* in \d+ s", output)
    # The second start finds it, and needs no writable volume.
    status, output = around.run("serve", "--grpc-port", "9001", before=mounted(read_only(around.volume)))
    assert status == 0, output
    assert around.calls[2:] == [f"serve --build {build} --host 0.0.0.0 --grpc-port 9001"]


def test_build_only(around: Surroundings) -> None:
    assert around.run("build")[0] == 0
    assert [call.split()[0] for call in around.calls] == ["export"]
    assert around.run("build")[0] == 0
    assert len(around.calls) == 1


def test_options_reach_export_and_name_the_build(around: Surroundings) -> None:
    plain = {"AURALSAM2_EXPORT_PRESET": "", "AURALSAM2_TARGET": "cpu"}
    assert around.run("build", **plain)[0] == 0
    given = {"AURALSAM2_EXPORT_PRESET": "hiera_tiny", "AURALSAM2_EXPORT_IMAGE_SIZE": "512"}
    assert around.run("build", **given)[0] == 0
    assert around.run("build", **given)[0] == 0
    assert around.run("build", **given, AURALSAM2_RELEASE="0.2.0")[0] == 0
    assert len(around.builds) == 3
    assert around.calls[0] == f"export --out {around.builds[0]}"
    assert around.calls[1].startswith("export --image-size 512 --preset hiera_tiny --out ")
    assert len(around.calls) == 3
    assert {path.name.rpartition("-")[0] for path in around.builds} == {"compact-cpu", "hiera-tiny-cpu"}


@pytest.mark.parametrize("target", ["tensorrt", "onnx-gpu"])
def test_a_gpu_target_is_passed_through_and_the_build_belongs_to_the_card(around: Surroundings, target: str) -> None:
    program(around.folder / "bin" / "nvidia-smi", CARDS["twins"])
    status, output = around.run("build", AURALSAM2_TARGET=target)
    assert status == 0, output
    made = around.builds[0]
    # Engines are looked at even when export has just made them: it looks at a few hashes, and nothing is assumed.
    checked = [f"engines --build {made}"] if target == "tensorrt" else []
    assert around.calls == [f"export --target {target} --out {made}", *checked]
    assert around.builds[0].name.startswith(f"compact-{target}-NVIDIA-L4-8.9-")
    assert "for NVIDIA L4, 8.9" in output
    program(around.folder / "bin" / "nvidia-smi", "echo 'NVIDIA H200, 9.0'")
    assert around.run("build", AURALSAM2_TARGET=target)[0] == 0
    assert len(around.builds) == 2


def test_engines_are_renewed_before_serving(around: Surroundings) -> None:
    program(around.folder / "bin" / "nvidia-smi", CARDS["one"])
    assert around.run("build", AURALSAM2_TARGET="tensorrt")[0] == 0
    (build,) = around.builds
    (build / ".engines-killed").mkdir()
    status, output = around.run("serve", AURALSAM2_TARGET="tensorrt")
    assert status == 0, output
    assert around.calls[2:] == [f"engines --build {build}", f"serve --build {build} --host 0.0.0.0"]
    assert f"checking the engines of {build} against NVIDIA L4, 8.9" in output
    # What a killed run left is gone, and nothing lies among the models.
    assert {path.name for path in build.iterdir()} == {"manifest.json", ".engines.lock"}


def test_progress_of_engines_goes_to_stderr(around: Surroundings) -> None:
    program(around.folder / "bin" / "nvidia-smi", CARDS["one"])
    command = [str(ENTRYPOINT), "build"]
    done = subprocess.run(
        command,
        env=around.environment(AURALSAM2_TARGET="tensorrt"),
        cwd=around.folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "built      hiera" in done.stderr
    assert "built      hiera" not in done.stdout


def test_a_build_that_cannot_be_written_is_served_as_it_is(around: Surroundings) -> None:
    """`serve` itself says which engine does not fit, and how to mend it."""
    program(around.folder / "bin" / "nvidia-smi", CARDS["one"])
    assert around.run("build", AURALSAM2_TARGET="tensorrt")[0] == 0
    (build,) = around.builds
    status, output = around.run("serve", before=mounted(read_only(around.volume)), AURALSAM2_TARGET="tensorrt")
    assert status == 0, output
    assert around.calls[2:] == [f"serve --build {build} --host 0.0.0.0"]


@pytest.mark.parametrize("target", ["cpu", "onnx-gpu"])
def test_other_targets_have_no_engines_to_renew(around: Surroundings, target: str) -> None:
    program(around.folder / "bin" / "nvidia-smi", CARDS["one"])
    status, output = around.run(AURALSAM2_TARGET=target)
    assert status == 0
    assert [call.split()[0] for call in around.calls] == ["export", "serve"]
    # The first start of an onnx-gpu build makes engines inside the server, for minutes.
    assert f"ready timeout {'3600' if target == 'onnx-gpu' else 'of the server'}\n" in output
    assert "ready timeout 60\n" in around.run(AURALSAM2_TARGET=target, AURALSAM2_READY_TIMEOUT_S="60")[1]


def test_engines_that_cannot_be_made_stop_the_start(around: Surroundings) -> None:
    program(around.folder / "bin" / "nvidia-smi", CARDS["one"])
    status, output = around.run(AURALSAM2_TARGET="tensorrt", STUB_ENGINES="bad")
    assert status == 3
    assert "error: no card" in output
    assert "the engines could not be made, status 3" in output
    assert [call.split()[0] for call in around.calls] == ["export", "engines"]


def test_sigterm_while_engines_are_made(around: Surroundings) -> None:
    program(around.folder / "bin" / "nvidia-smi", CARDS["one"])
    assert around.run("build", AURALSAM2_TARGET="tensorrt")[0] == 0
    (build,) = around.builds
    process = around.start("serve", AURALSAM2_TARGET="tensorrt", STUB_ENGINES="endless")
    eventually(lambda: (build / ".engines-2").exists())
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == STOPPED
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)
    # The build stays: what is not whole is found at the next start.
    assert (build / "manifest.json").exists()


def test_two_containers_make_engines_one_after_the_other(around: Surroundings) -> None:
    program(around.folder / "bin" / "nvidia-smi", CARDS["one"])
    assert around.run("build", AURALSAM2_TARGET="tensorrt")[0] == 0
    (build,) = around.builds
    first = around.start("build", AURALSAM2_TARGET="tensorrt", STUB_ENGINES="slow")
    eventually(lambda: (build / ".engines-1").exists())
    status, output = around.run("build", AURALSAM2_TARGET="tensorrt")
    assert "another container is making" in output
    first.communicate(timeout=20)
    # The second did not take the first one's half-made engines for leftovers.
    assert (first.returncode, status) == (0, 0)


def test_a_failed_export_gives_its_status_and_leaves_nothing(around: Surroundings) -> None:
    status, output = around.run(STUB_EXPORT="bad")
    assert status == 3
    assert "error: no space" in output
    assert "the build failed with status 3" in output
    assert around.builds == []
    assert len(around.calls) == 1


def test_sigterm_while_building(around: Surroundings) -> None:
    process = around.start(STUB_EXPORT="endless")
    eventually(lambda: list(around.volume.glob(".*.partial-*")))
    children = eventually(lambda: len(found := psutil.Process(process.pid).children(recursive=True)) >= 3 and found)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == STOPPED
    assert "stopping" in output
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)
    assert around.builds == []


def test_what_a_killed_build_left_is_removed(around: Surroundings) -> None:
    assert around.run("build")[0] == 0
    (build,) = around.builds
    shutil.rmtree(build)
    (around.volume / f".{build.name}.partial-7").mkdir()
    other = around.volume / ".other.partial-7"
    other.mkdir()
    assert around.run("build")[0] == 0
    assert around.builds == [other, build]


def test_two_containers_on_one_volume_make_one_build(around: Surroundings) -> None:
    first = around.start("build", STUB_EXPORT="slow")
    eventually(lambda: list(around.volume.glob(".*.partial-*")))
    status, output = around.run("build")
    first.communicate(timeout=20)
    assert (first.returncode, status) == (0, 0)
    assert "another container is making" in output
    assert len(around.calls) == 1


# The entry point with the embedded server.


@dataclass(frozen=True)
class Served:
    process: subprocess.Popen[str]
    grpc_port: int
    metrics_port: int
    log: Path
    cache: Path


@pytest.fixture
def served(around: Surroundings, compact_build: Path) -> Iterator[Served]:
    """The server as compose.yaml starts it: models read-only, a cache, temporary files where nothing is executed."""
    (around.folder / "bin" / "auralsam2").unlink()
    (around.folder / "tmp").mkdir()
    before = mounted(read_only(compact_build), f"mount -t tmpfs -o noexec,nosuid,nodev tmpfs '{around.folder / 'tmp'}'")
    grpc_port, metrics_port = free_ports(2)
    log = around.folder / "log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [*before, str(ENTRYPOINT), "serve"],
            env=around.environment(
                AURALSAM2_BUILD=str(compact_build),
                AURALSAM2_GRPC_PORT=str(grpc_port),
                AURALSAM2_METRICS_PORT=str(metrics_port),
                AURALSAM2_METRICS_HOST="0.0.0.0",
                AURALSAM2_CACHE_DIR=str(around.folder / "cache"),
                TMPDIR=str(around.folder / "tmp"),
            ),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            text=True,
        )
    try:
        yield Served(process, grpc_port, metrics_port, log, around.folder / "cache")
    finally:
        # A shell that did not give way to the supervisor has it as a child; the launcher's guardian does the rest.
        children = [] if process.poll() is not None else psutil.Process(process.pid).children()
        left = [child for child in children if "auralsam2 serve" in " ".join(child.cmdline())]
        process.kill()
        process.wait()
        for child in left:
            child.kill()


def health(served: Served) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "service.container.healthcheck"],
        env={**os.environ, "AURALSAM2_GRPC_PORT": str(served.grpc_port)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.returncode, done.stdout


def test_serves_read_only_and_sigterm_lets_clips_finish(served: Served) -> None:
    assert health(served)[0] == 1
    eventually(lambda: "supervisor: ready" in served.log.read_text() or served.process.poll() is not None, within_s=120)
    assert served.process.poll() is None, served.log.read_text()
    # The shell is gone: the process that gets SIGTERM is the supervisor.
    assert "auralsam2 serve --build" in " ".join(psutil.Process(served.process.pid).cmdline())
    assert health(served) == (0, f"127.0.0.1:{served.grpc_port} is ready\n")
    # What OpenVINO compiled is kept for the next start, though the build cannot be written.
    assert list(served.cache.glob("*.blob"))
    assert "cannot be written" not in served.log.read_text()
    metrics_url = f"http://127.0.0.1:{served.metrics_port}/metrics"
    frames, audio = sample_frames(5, 256), sample_audio(5)
    with Client(f"127.0.0.1:{served.grpc_port}", timeout_s=60) as client, ThreadPoolExecutor(6) as pool:
        before = fetch(metrics_url)["auralsam2"].success
        calls = [pool.submit(client.infer, frames, audio) for _ in range(6)]
        eventually(lambda: in_flight(fetch(metrics_url)) >= 2)
        served.process.send_signal(signal.SIGTERM)
        # Not all were done, so the signal came while clips were under way.
        assert fetch(metrics_url)["auralsam2"].success - before < len(calls)
        answers = [call.result(60) for call in calls]
    assert len({answer["MASK_LOGITS"].tobytes() for answer in answers}) == 1
    assert served.process.wait(30) == 0, served.log.read_text()
    assert "stopping; calls under way are finished first" in served.log.read_text()
    assert health(served)[0] == 1


def test_metrics_can_be_read_from_the_network_of_the_containers(served: Served) -> None:
    eventually(lambda: "supervisor: ready" in served.log.read_text(), within_s=120)
    # 127.0.0.2 stands for another interface: a socket bound to 127.0.0.1 does not answer there.
    assert "auralsam2" in fetch(f"http://127.0.0.2:{served.metrics_port}/metrics")
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(30) == 0


def test_the_script_is_clean() -> None:
    assert os.access(ENTRYPOINT, os.X_OK)
    assert subprocess.run(["bash", "-n", ENTRYPOINT], check=False).returncode == 0
    done = tool("shellcheck", "--severity=style", "--shell=bash", str(ENTRYPOINT))
    assert (done.returncode, done.stdout) == (0, "")
    assert "shellcheck disable" not in ENTRYPOINT.read_text()
    assert tool("shellcheck", "-", given="#!/bin/bash\nrm $1\n").returncode == 1
