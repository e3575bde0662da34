"""Broken files never end the process: 500 of them, of eight kinds of container, are read or refused in our words."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from tests.auralsam2_client.media.films import filming, mutations, telling

COUNT = 500
RATE = 16_000
# A worker that hangs is stopped, and its last file named.
LIMIT_S = 120.0

EIGHT = telling.placed("7.1", 1.2, FL=700, BR=2500)
RECIPES: dict[str, filming.Recipe] = {
    "a.mp4": filming.USUAL,
    "b.mp4": filming.Recipe(container_options={"movflags": "+faststart"}),
    "c.mov": filming.Recipe(audio="pcm_s16le", sample_format="s16"),
    "d.mkv": filming.Recipe(audio="libopus", sample_format="flt"),
    "e.ts": filming.MPEG2,
    "f.avi": filming.Recipe(video="mpeg4", video_options={}, audio="adpcm_ms", sample_format="s16"),
    "g.flv": filming.USUAL,
    "h.mkv": filming.Recipe(
        video="mjpeg", pixel_format="yuvj420p", video_options={}, audio="flac", sample_format="s16"
    ),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("whole")
    shown = [telling.picture(index, 32, 48) for index in range(30)]
    return [
        filming.write(folder / name, shown, EIGHT, recipe, layout="7.1").read_bytes()
        if name in ("a.mp4", "c.mov", "h.mkv")
        else filming.write(folder / name, shown, telling.pitches(1.2), recipe).read_bytes()
        for name, recipe in RECIPES.items()
    ]


def test_broken_files_are_read_or_refused(whole: list[bytes], tmp_path: Path) -> None:
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    suffixes = [Path(name).suffix for name in RECIPES]
    files = []
    for seed in range(COUNT):
        random = Random(seed)
        kind = random.randrange(len(whole))
        files.append(tmp_path / f"seed_{seed}{suffixes[kind]}")
        files[-1].write_bytes(mutations.mutated(whole[kind], whole, random))
    command = [sys.executable, mutations.__file__]
    asked = "".join(f"{path}\n" for path in files)
    try:
        worker = subprocess.run(
            command, input=asked, env=paths, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired as late:
        num_answers = (late.stdout or b"").count(b"\n")
        pytest.fail(f"it hangs, or is slow, at {files[num_answers].name}")
    answers = worker.stdout.splitlines()
    assert worker.returncode == 0, f"it died of {files[len(answers)].name}: {worker.returncode} {worker.stderr[-500:]}"
    odd = {path.name: answer for path, answer in zip(files, answers, strict=True) if answer not in ("read", "refused")}
    assert odd == {}
    # Neither all broken beyond reading nor all as good as whole: the mutations bite, and the reader goes on.
    counts = Counter(answers)
    assert min(counts["read"], counts["refused"]) > COUNT / 10
