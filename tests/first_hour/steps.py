"""The steps of the hour, in the order of the README. Each runs what a page says, and reads what came of it."""

import json
import math
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path

import numpy as np

from tests.first_hour.hour import Failed, Hour, LeftOut

PORTS = ("--grpc-port", "8701", "--metrics-port", "8702", "--exporter-port", "8703")
URL = "127.0.0.1:8701"
TARGETS = "http://127.0.0.1:8790/api/v1/targets?state=active"
TRAINED_STEPS, KILLS = 60, 5
SCRIPT = """
import sys
from auralsam2_client import Client, read_media, windows
media = read_media(sys.argv[1], max_frames=5)
heard = windows(media.sound, len(media.frames))
with Client(sys.argv[2]) as client:
    answer = client.segment(media.frames, heard.samples)
print("masks", answer.masks().shape, "build", answer.build["build"])
"""


def clone(hour: Hour) -> str:
    """Clone the repository into an empty folder."""
    source = Path(__file__).resolve().parents[2]
    hour.run("git", "clone", "-q", str(source), str(hour.checkout), cwd=hour.out).expect()
    return str(hour.checkout.name)


def set_up(hour: Hour) -> str:
    """Make the two environments."""
    hour.run("make", "setup").expect()
    size = sum(path.stat().st_size for path in (hour.checkout / ".venv").rglob("*") if path.is_file())
    return f"{size / 1e9:.1f} GB in .venv"


def demo(hour: Hour) -> str:
    """Run the demo, and look whether it found what sounds."""
    said = hour.run("make", "demo").expect("mean", "look at:")
    for name in ("overlay.mp4", "frames.png", "result.json"):
        if not (hour.checkout / "out" / name).is_file():
            raise Failed(f"the demo left no out/{name}")
    return said.text.strip().splitlines()[-2][-60:]


def own_clip(hour: Hour) -> str:
    """Send a video that is not of the made-up world; a person must be told that the weights do not know it."""
    clip = _film(hour.out / "holiday.mp4")
    with hour.running(hour.program("auralsam2"), "serve", *PORTS, until="ready on"):
        out = hour.out / "holiday"
        said = hour.run(hour.program("auralsam2"), "segment", str(clip), "--url", URL, "-o", str(out))
        said.expect("nothing of real scenes", "wrote")
        build = json.loads((out / "result.json").read_text())["build"]
        hour.run(hour.program("auralsam2"), "segment", "absent.mp4", "--url", URL).expect("does not exist", code=2)
    hour.run(hour.program("auralsam2"), "segment", str(clip), "--url", URL, "-o", str(out)).expect(
        "auralsam2 serve", code=4
    )
    return f"{build['build']}, trained on: {build['trained_on']}"


def client_alone(hour: Hour) -> str:
    """Install the client into an empty environment, and call the server from it."""
    place = hour.out / "client"
    hour.run(sys.executable, "-m", "venv", "--clear", str(place)).expect()
    hour.run(str(place / "bin" / "pip"), "install", "-q", ".").expect()
    clip = _film(hour.out / "holiday.mp4")
    with hour.running(hour.program("auralsam2"), "serve", *PORTS, until="ready on"):
        said = hour.run(str(place / "bin" / "python"), "-c", SCRIPT, str(clip), URL, cwd=hour.out)
        said.expect("masks (3,", "build compact")
    lacking = hour.run(str(place / "bin" / "python"), "-c", "import torch", cwd=hour.out)
    if lacking.code == 0:
        raise Failed("the client brought torch")
    return said.text.strip()


def doctor(hour: Hour) -> str:
    """Ask what is missing, of a build that is there and of one that is not."""
    hour.run(hour.program("auralsam2"), "doctor").expect("what this machine has")
    absent = hour.run(hour.program("auralsam2"), "doctor", "--build", "build/absent")
    if absent.code == 0:
        raise Failed(f"doctor is content with a build that does not exist: {absent.text[-400:]}")
    return f"code {absent.code} for a build that does not exist"


def monitoring(hour: Hour) -> str:
    """Start Prometheus for the server, and read the server's own page."""
    if shutil.which("prometheus") is None:
        raise LeftOut("prometheus is not installed: apt-get install prometheus")
    import urllib.request

    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with hour.running(hour.program("auralsam2"), "serve", *PORTS, until="ready on"):
        page = str(opener.open("http://127.0.0.1:8703/metrics", timeout=10).read(), "utf-8")
        scraping = ("make", "monitoring", "EXPORTER_PORT=8703", "PROMETHEUS_PORT=8790")
        with hour.running(*scraping, until="Prometheus asks"):
            _wait_until(lambda: b"127.0.0.1:8703" in opener.open(TARGETS, timeout=10).read())
    line = next((line for line in page.splitlines() if line.startswith("auralsam2_build_info{")), None)
    if line is None or 'trained_on="procedural world"' not in line:
        raise Failed(f"the metrics say of the build: {line}")
    return line[:60]


def load_test(hour: Hour) -> str:
    """Load the server for ten seconds, with locust's own flags."""
    with hour.running(hour.program("auralsam2"), "serve", *PORTS, until="ready on"):
        said = hour.run(
            hour.program("locust"),
            *(
                "-f",
                "loadtests/generator/locustfile.py",
                "--host",
                URL,
                "--headless",
                "-u",
                "2",
                "-r",
                "2",
                "-t",
                "10s",
            ),
            *("--metrics-url", "http://127.0.0.1:8702/metrics", "--only-summary"),
        )
        said.expect("Aggregated")
    return next((line.strip() for line in said.text.splitlines() if "Aggregated" in line), "")[:80]


def train(hour: Hour) -> str:
    """Train a little, killed at five random moments; the weights must be those of a run that nothing stopped."""
    settings = ("--steps", str(TRAINED_STEPS), "--workers", "1", "--image-size", "224", "--num-frames", "2")
    command = (hour.program("auralsam2"), "train", *settings, "--out")
    whole, parts = hour.out / "whole", hour.out / "parts"
    for folder in (whole, parts):
        shutil.rmtree(folder, ignore_errors=True)
    began = time.monotonic()
    hour.run(*command, str(whole)).expect()
    took_s, draw, killed = time.monotonic() - began, hour.random, list[float]()
    for _ in range(KILLS):
        # What is left of a run that goes on is shorter.
        seconds = took_s * draw.uniform(0.2, 0.6)
        if not hour.kill_after((*command, str(parts)), seconds):
            raise Failed(
                f"the run was over within {seconds:.1f} s, before it was killed; {took_s:.1f} s is a whole one"
            )
        killed.append(seconds)
    hour.run(*command, str(parts)).expect()
    compared = (
        "import sys, torch; from safetensors.torch import load_file; a, b = map(load_file, sys.argv[1:]);"
        "print('same' if a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a) else 'other')"
    )
    files = [str(folder / "weights.safetensors") for folder in (whole, parts)]
    hour.run(hour.program("python"), "-c", compared, *files).expect("same")
    return f"killed after {', '.join(f'{seconds:.0f}' for seconds in killed)} s; the same weights"


STEPS: Mapping[str, Callable[[Hour], str]] = {
    "clone": clone,
    "set-up": set_up,
    "demo": demo,
    "own clip": own_clip,
    "client alone": client_alone,
    "doctor": doctor,
    "monitoring": monitoring,
    "load test": load_test,
    "train": train,
}
OF_CLONING = ("clone", "set-up")


def _wait_until(holds: Callable[[], bool], within_s: float = 60.0) -> None:
    """Look until it holds: Prometheus says its name before it listens, and reads its targets later still."""
    deadline, seen = time.monotonic() + within_s, "it does not hold"
    while time.monotonic() < deadline:
        try:
            if holds():
                return
        except OSError as error:
            seen = str(error)
        time.sleep(0.5)
    raise Failed(f"waited {within_s:g} s: {seen}")


def _film(path: Path) -> Path:
    """Write three seconds of drifting grey noise with a tone: no shape of the made-up world."""
    from service.results.video import write_video

    random = np.random.default_rng(3)
    still = random.integers(60, 180, (180, 320, 3), np.uint8)
    pictures = ((np.roll(still, 2 * number, axis=1), 1) for number in range(30))
    times = np.arange(3 * 16_000) / 16_000
    tone = np.float32(0.2) * np.sin(2 * math.pi * 330 * times).astype(np.float32)
    return write_video(path, pictures, Fraction(10), np.stack([tone, tone], 1), 16_000)
