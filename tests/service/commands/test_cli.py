"""The command line as a person meets it, against the real server."""

import json
import os
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import av
import numpy as np
import psutil
import pytest
from PIL import Image
from typer.testing import CliRunner

from auralsam2_client.calls.client import Client
from auralsam2_client.contract import STAGE_NAMES
from auralsam2_client.errors import AuralServeError
from auralsam2_client.masks import from_rle
from auralsam2_client.version import __version__
from service.builds.golden import Golden
from service.commands.cli import app
from service.results.caption import strip_height_px
from service.server.serving import free_ports
from tests.auralsam2_client.media.films import filming, telling

RESTORED_WITHIN_S = 30


def run(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_it_says_its_version() -> None:
    result = run("--version")
    assert (result.exit_code, result.output) == (0, f"auralsam2 {__version__}\n")


def silent_copy(source: Path, target: Path) -> Path:
    """The same video without its sound track."""
    with av.open(str(source)) as read, av.open(str(target), "w") as write:
        track = read.streams.video[0]
        copy = write.add_stream_from_template(track)
        for packet in read.demux(track):
            if packet.dts is not None:
                packet.stream = copy
                write.mux(packet)
    return target


def test_segment_writes_overlay_masks_and_json(served_compact: Any, demo_clip: Path, tmp_path: Path) -> None:
    result = run("segment", demo_clip, "-o", tmp_path / "out", "--url", served_compact.config.grpc_url)
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "out" / "result.json").read_text())
    assert len(record["frames"]) == 5
    height, width = record["image_size"]["height"], record["image_size"]["width"]
    for index, frame in enumerate(record["frames"]):
        mask = np.asarray(Image.open(tmp_path / "out" / f"mask_{index:05}.png"))
        assert mask.shape == (height, width)
        assert np.array_equal(mask > 0, from_rle(frame["rle"]))
        assert len(frame["iou"]) == 3
        assert np.isfinite(frame["object_score"])
    with av.open(str(tmp_path / "out" / "overlay.mp4")) as overlay:
        assert overlay.streams.video[0].codec_context.name == "h264"
        assert overlay.streams.audio[0].codec_context.name == "aac"
        assert overlay.duration == pytest.approx(5e6, rel=0.05)


def test_segment_what_is_marked(served_compact: Any, demo_clip: Path, tmp_path: Path) -> None:
    arguments = ("-o", tmp_path, "--url", served_compact.config.grpc_url)
    marks = ("--points", "143,379,+;20,20,-", "--box", "70,300,215,460", "--frame", "1")
    result = run("segment", demo_clip, *arguments, *marks, "--combine", "union", "--answer", "rle")
    assert result.exit_code == 0, result.output
    frames = json.loads((tmp_path / "result.json").read_text())["frames"]
    assert [frame["mode"] for frame in frames] == ["audio+points+box"] * 5
    assert frames[1]["area_px"] > 0
    assert "by audio+points+box" in result.output
    alone = run("segment", demo_clip, *arguments, "--mask", tmp_path / "mask_00001.png", "--no-audio", "--no-overlay")
    assert alone.exit_code == 0, alone.output
    assert {frame["mode"] for frame in json.loads((tmp_path / "result.json").read_text())["frames"]} == {"mask"}


@pytest.mark.parametrize(
    ("marks", "words"),
    [
        (("--points", "512,5,+"), "0 to 511"),
        (("--points", "5,5,2"), "label '2'"),
        (("--box", "9,1,3,8"), "turned round"),
        (("--points", "5,5,+", "--frame", "5"), "0 to 4"),
        (("--no-audio",), "nothing says what to segment"),
        (("--points", "5,5,+", "--no-audio", "--fps", "2"), "--max-frames"),
        (("--points", "5,5,+", "--combine", "max"), "best_iou"),
        (("--text", "star " * 26), "text of 26 words; 25 are read"),
        (("--answer", "png"), "must be one of logits, float16, bits, rle"),
    ],
)
def test_bad_marks_are_refused_with_the_way_out(
    served_compact: Any, demo_clip: Path, tmp_path: Path, marks: tuple[str, ...], words: str
) -> None:
    result = run("segment", demo_clip, "-o", tmp_path / "out", "--url", served_compact.config.grpc_url, *marks)
    assert result.exit_code == 2
    assert words in " ".join(result.output.split())
    assert not (tmp_path / "out").exists()


def test_segment_at_another_rate_and_length(served_compact: Any, demo_clip: Path, tmp_path: Path) -> None:
    arguments = ("--fps", "2", "--start", "1", "--max-frames", "7", "--no-overlay")
    result = run("segment", demo_clip, "-o", tmp_path, "--url", served_compact.config.grpc_url, *arguments)
    assert result.exit_code == 0, result.output
    times = [frame["time_s"] for frame in json.loads((tmp_path / "result.json").read_text())["frames"]]
    assert times == [1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0]
    assert not (tmp_path / "overlay.mp4").exists()


def test_a_clip_without_sound_names_silent_and_silent_works(
    served_compact: Any, demo_clip: Path, tmp_path: Path
) -> None:
    mute = silent_copy(demo_clip, tmp_path / "mute.mp4")
    url = served_compact.config.grpc_url
    refused = run("segment", mute, "-o", tmp_path / "out", "--url", url)
    assert refused.exit_code == 2
    assert "--silent" in refused.output
    assert not (tmp_path / "out").exists()
    taken = run("segment", mute, "-o", tmp_path / "out", "--url", url, "--silent", "--no-overlay")
    assert taken.exit_code == 0, taken.output


def test_a_damaged_clip_of_wide_pixels_comes_with_a_note_and_is_refused_by_strict(
    served_compact: Any, tmp_path: Path
) -> None:
    wide = filming.Recipe(aspect=Fraction(2))
    whole = filming.write(tmp_path / "whole.mp4", map(telling.picture, range(75)), telling.pitches(3), wide)
    clip = filming.spoilt(whole, tmp_path / "clip.mp4", "audio", 30)
    out = tmp_path / "out"
    arguments = ("-o", out, "--url", served_compact.config.grpc_url)
    taken = run("segment", clip, *arguments, "--audio-track", "1", "--video-track", "1")
    assert taken.exit_code == 0, taken.output
    note = "1 packet of the sound cannot be decoded"
    assert f"note: {note}" in " ".join(taken.output.split())
    record = json.loads((out / "result.json").read_text())
    assert record["notes"][0].startswith(note)
    assert record["tracks"]["sound"] == {"track": 1, "of": 1, "codec": "aac"}
    assert record["rotation"] == {"degrees_clockwise": 0, "mirrored": False}
    assert record["pixel_aspect"] == 2
    # Masks stay in stored pixels; what a person looks at is shown as on a screen.
    with Image.open(out / "mask_00000.png") as mask:
        assert mask.size == (80, 48)
    with av.open(str(out / "overlay.mp4")) as overlay:
        assert (overlay.streams.video[0].width, overlay.streams.video[0].height) == (160, 48 + strip_height_px(48, 160))
    refused = run("segment", clip, *arguments, "--strict")
    assert refused.exit_code == 2
    assert note in " ".join(refused.output.split())
    missing = run("segment", clip, *arguments, "--audio-track", "2")
    assert "has 1 sound track, counted from 1" in " ".join(missing.output.split())


def test_segment_a_film(served_compact: Any, clips: ModuleType, tmp_path: Path) -> None:
    film = clips.write_film(tmp_path / "film.mp4")
    result = run("segment", film, "-o", tmp_path, "--url", served_compact.config.grpc_url)
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "result.json").read_text())
    assert record["image_size"] == {"height": 720, "width": 1280}
    assert len(record["frames"]) == 6


def test_nobody_listens(demo_clip: Path, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    result = run("segment", demo_clip, "-o", tmp_path, "--url", f"127.0.0.1:{port}", "--timeout", "3")
    assert result.exit_code == 4
    assert str(port) in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--preset", "huge"), ("huge", "compact")),
        (("--image-size", "300"), ("300", "256")),
        (("--num-frames", "17"), ("17", "16")),
        (("--engine", "tflite"), ("tflite", "onnxruntime")),
        (("--checkpoint", "no/such/file.pth"), ("no/such/file.pth",)),
        (("--conditioning-frame", "5"), ("5", "4")),
        (("--read-out", "best"), ("best", "iou_occlusion")),
    ],
)
def test_export_refuses_with_the_way_out(tmp_path: Path, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    result = run("export", *arguments, "--out", tmp_path / "build")
    assert result.exit_code == 3
    for word in words:
        assert word in result.output
    assert not (tmp_path / "build").exists()


def test_serve_without_a_build_says_how_to_make_one(tmp_path: Path) -> None:
    result = run("serve", "--build", tmp_path / "none")
    assert result.exit_code == 3
    assert "auralsam2 export" in result.output


def test_serve_takes_its_settings_from_the_environment_too(
    compact_build: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AURALSAM2_BUILD", str(tmp_path / "named_by_variable"))
    named = run("serve")
    assert named.exit_code == 3
    assert "named_by_variable" in named.output
    monkeypatch.setenv("AURALSAM2_GRPC_PORT", "many")
    unreadable = run("serve", "--build", compact_build)
    assert unreadable.exit_code == 3
    assert "AURALSAM2_GRPC_PORT" in unreadable.output


def test_doctor_speaks_of_every_part(compact_build: Path) -> None:
    result = run("doctor", "--build", compact_build)
    for part in ("tritonserver", "numpy of the server", "shared memory", "torch", "build"):
        assert part in result.output


def test_help_needs_no_torch() -> None:
    code = "import sys; import service.commands.cli; sys.exit('torch' in sys.modules or 'export' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def leftovers(mark: int) -> list[str]:
    return [path.name for path in Path("/dev/shm").glob(f"auralsam2_{mark}_*")]


def test_serve_survives_a_killed_stage_and_leaves_nothing_behind(compact_build: Path, tmp_path: Path) -> None:
    grpc_port, metrics_port = free_ports(2)
    ports = ("--grpc-port", str(grpc_port), "--metrics-port", str(metrics_port), "--log-file", str(tmp_path / "log"))
    # The very command of the README; its log goes to the test's.
    server = subprocess.Popen(
        [sys.executable, "-m", "service.commands.cli", "serve", "--build", str(compact_build), *ports],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    golden = Golden.load(compact_build)
    try:
        with Client(f"127.0.0.1:{grpc_port}", timeout_s=20) as client:
            wait_for_answer(client, golden, 60)
            tree = psutil.Process(server.pid).children(recursive=True)
            stage = max((p for p in tree if "python_backend_stub" in p.name()), key=lambda p: p.memory_info().rss)
            stage.kill()
            with pytest.raises(AuralServeError):
                client.infer(golden.frames, golden.audio)
            wait_for_answer(client, golden, RESTORED_WITHIN_S)
        tree = psutil.Process(server.pid).children(recursive=True)
        assert tree
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0
        _, alive = psutil.wait_procs(tree, timeout=5)
        assert alive == []
        assert leftovers(server.pid) == []
        check_log(tmp_path / "log", grpc_port)
    finally:
        if server.poll() is None:
            os.kill(server.pid, signal.SIGTERM)
            server.wait(60)


def check_log(path: Path, grpc_port: int) -> None:
    """Of a start, an answered clip, a stage that was killed, and a stop."""
    events = [json.loads(line) for line in path.read_text().splitlines()]
    ready = next(event for event in events if event["event"] == "ready")
    assert ready["next"] == f"auralsam2 segment CLIP --url 127.0.0.1:{grpc_port}"
    answered = [event for event in events if event["event"] == "request" and event["code"] == "OK"]
    assert answered
    for event in answered:
        assert (event["frames"], event["mode"]) == (5, "audio")
        assert list(event["ms"]) == [*STAGE_NAMES, "total"]
        assert sum(event["ms"][stage] for stage in STAGE_NAMES) <= event["ms"]["total"]
    restart = next(event for event in events if event["event"] == "restart")
    assert restart["stage"] in STAGE_NAMES
    assert f"stage {restart['stage']} (process" in restart["cause"]
    assert {"restored", "stopping", "server"} <= {event["event"] for event in events}


def wait_for_answer(client: Client, golden: Golden, timeout_s: float) -> None:
    """Ask until the server answers as it should."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            golden.check(client.infer(golden.frames, golden.audio, outputs=tuple(golden.reference)))
            return
        except AuralServeError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
