"""The entry point for GPUs: builds belong to a kind of card, and engines are renewed before they are served."""

import signal
import subprocess

import psutil
import pytest

from tests.service.container.surroundings import CARDS, ENTRYPOINT, STOPPED, Surroundings, mounted, program, read_only
from tests.service.toy.running import eventually


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
