"""The entry point: a missing build is made once, and nothing half-made stays."""

import re
import shutil
import signal
from typing import Any

import psutil

from tests.service.container.surroundings import STOPPED, Surroundings, mounted, read_only
from tests.service.toy.running import eventually


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
    plain: dict[str, Any] = {"AURALSAM2_EXPORT_PRESET": "", "AURALSAM2_TARGET": "cpu"}
    assert around.run("build", **plain)[0] == 0
    given: dict[str, Any] = {"AURALSAM2_EXPORT_PRESET": "hiera_tiny", "AURALSAM2_EXPORT_IMAGE_SIZE": "512"}
    assert around.run("build", **given)[0] == 0
    assert around.run("build", **given)[0] == 0
    assert around.run("build", **given, AURALSAM2_RELEASE="0.2.0")[0] == 0
    assert len(around.builds) == 3
    assert around.calls[0] == f"export --out {around.builds[0]}"
    assert around.calls[1].startswith("export --image-size 512 --preset hiera_tiny --out ")
    assert len(around.calls) == 3
    assert {path.name.rpartition("-")[0] for path in around.builds} == {"compact-cpu", "hiera-tiny-cpu"}


def test_flags_of_export_are_set_by_one(around: Surroundings) -> None:
    on: dict[str, Any] = {"AURALSAM2_EXPORT_CLASSES": "1", "AURALSAM2_EXPORT_METHOD": "auralsam2"}
    off: dict[str, Any] = {"AURALSAM2_EXPORT_CLASSES": "0", "AURALSAM2_EXPORT_TEXT": ""}
    assert around.run("build", **on)[0] == 0
    assert around.run("build", **off)[0] == 0
    assert around.calls[0].startswith("export --classes --method auralsam2 --out ")
    assert around.calls[1].startswith("export --out ")


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
