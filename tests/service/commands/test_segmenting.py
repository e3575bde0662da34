"""`segment` as a person meets it, against a stand-in of the client: names of files, and what lies in the folder."""

import json
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from auralsam2_client.calls import client as client_module
from auralsam2_client.calls.segmentation import Segmentation
from auralsam2_client.contract import FROM_PROCEDURAL_WORLD, PROCEDURAL_WORLD, BuildInfo
from auralsam2_client.media.clips import MediaClip
from auralsam2_client.media.streaming import MediaStream
from auralsam2_client.prompts import Prompts
from service.commands.cli import app
from service.results import outputs, overlay
from service.results.video import write_video
from tests.auralsam2_client.media.films import filming, telling


class StandIn:
    """Answers each clip with one mask."""

    num_frames, image_size, model = 5, 64, "auralsam2"
    timeout_s, retries = 60.0, 0
    build: BuildInfo | None = None
    logit = 1.0

    def __init__(self, url: str, **settings: Any) -> None:
        pass

    def __enter__(self) -> "StandIn":
        return self

    def __exit__(self, *what: object) -> None:
        pass

    def chosen_wire(self) -> str:
        return "raw"

    def own_channel(self) -> "StandIn":
        return self

    def close(self) -> None:
        pass

    def segment(self, frames: np.ndarray, audio: np.ndarray, **marks: Any) -> Segmentation:
        N, height, width = frames.shape[:3]
        logits = np.full((N, 16, 16), -1, np.float32)
        logits[:, :8] = self.logit
        iou, score = np.zeros((N, 3), np.float32), np.ones(N, np.float32)
        return Segmentation(logits, iou, score, height, width, build=self.build)


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "Client", StandIn)


def segment(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, ["segment", *(str(argument) for argument in arguments)])


SERVED: BuildInfo = {
    "build": "compact-256-t5",
    "method": "auralsam2",
    "classes": "",
    "text": "",
    "target": "cpu",
    "engine": "openvino",
    "precision": "bfloat16",
    "weights": "Weights trained on the procedural world.",
    "trained_on": PROCEDURAL_WORLD,
    "checkpoint_sha256": "ab" * 32,
    "conditioning_frame": "2",
}


@pytest.mark.parametrize(("comment", "is_told"), [(FROM_PROCEDURAL_WORLD, False), ("holiday", True), ("", True)])
def test_real_video_meets_a_warning_where_the_weights_know_a_made_up_world(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, comment: str, is_told: bool
) -> None:
    monkeypatch.setattr(StandIn, "build", SERVED)
    pictures = [(np.full((32, 32, 3), shade, np.uint8), 1) for shade in (10, 20, 30)]
    clip = write_video(tmp_path / "clip.mp4", pictures, Fraction(1), None, 16_000, comment=comment)
    result = segment(clip, "--silent", "--no-overlay", "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "out" / "result.json").read_text())
    assert record["build"] == SERVED
    assert record["precision"] == {"engine": "openvino", "arithmetic": "bfloat16"}
    assert any("nothing of real scenes" in note for note in record["notes"]) == is_told
    assert ("note: the served weights know six shapes" in " ".join(result.output.split())) == is_told


@pytest.mark.parametrize(("build", "named", "drawn_on"), [(SERVED, (), [2]), (None, (), []), (SERVED, ("1",), [1])])
def test_marks_are_drawn_on_the_frame_that_they_are_read_on(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    build: BuildInfo | None,
    named: tuple[str, ...],
    drawn_on: list[int],
) -> None:
    """Without --frame that is the one which the build decodes first, where it says so."""
    monkeypatch.setattr(StandIn, "build", build)
    seen: list[int] = []

    def draw(picture: np.ndarray, prompts: Prompts) -> np.ndarray:
        seen.append(int(picture[0, 0, 0]))
        return picture

    monkeypatch.setattr(outputs, "draw_prompts", draw)
    for number in range(4):
        Image.new("RGB", (32, 32), (number, 0, 0)).save(tmp_path / f"{number}.png")
    frame = [option for value in named for option in ("--frame", value)]
    result = segment(tmp_path, "--silent", "--points", "5,5,+", *frame, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert sorted(set(seen)) == drawn_on


def test_masks_of_next_to_nothing_are_told(tmp_path: Path, clips: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StandIn, "logit", -1.0)
    result = segment(clips.write_folder(tmp_path / "frames", 3), "--silent", "--no-overlay", "-o", tmp_path / "out")
    assert result.exit_code == 0
    assert "note: masks cover 0.00% of all pixels: next to nothing that sounds" in " ".join(result.output.split())
    record = json.loads((tmp_path / "out" / "result.json").read_text())
    assert (record["precision"], "build" in record) == ({}, False)


@pytest.mark.parametrize("sound", ["--audio", "--no-audio"])
def test_a_text_is_said_of_every_clip_with_sound_or_without(
    tmp_path: Path, clips: ModuleType, monkeypatch: pytest.MonkeyPatch, sound: str
) -> None:
    asked, answer = list[dict[str, Any]](), StandIn.segment

    def note(self: StandIn, frames: np.ndarray, audio: np.ndarray, **says: Any) -> Segmentation:
        asked.append(says)
        return answer(self, frames, audio, **says)

    monkeypatch.setattr(StandIn, "segment", note)
    folder = clips.write_folder(tmp_path / "frames", 7)  # two clips of five
    result = segment(folder, "--silent", "--no-overlay", sound, "--text", "a star", "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert [(says["text"], says["use_audio"]) for says in asked] == [("a star", sound == "--audio")] * 2


NAMES = ["Clip [dQw4xyz]", "a [/b] c", "[red]x[/red]", ":smile: [link=x]", "tab\tstop", "[[]]\\[x]"]


@pytest.mark.parametrize("name", NAMES)
def test_names_are_printed_letter_for_letter(tmp_path: Path, clips: ModuleType, name: str) -> None:
    clip = clips.write_folder(tmp_path / name, 3)
    out = tmp_path / "out" / name
    result = segment(clip, "--silent", "--no-overlay", "-o", out)
    assert result.exit_code == 0, result.output
    assert str(out / "result.json") in result.output
    refused = segment(tmp_path / "none" / name, "-o", out)
    assert refused.exit_code == 2
    assert f"{tmp_path / 'none' / name} does not exist" in refused.output


def test_a_used_folder_holds_this_run_and_the_users_files(tmp_path: Path, clips: ModuleType) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    assert segment(clips.write_folder(tmp_path / "long", 9), "--silent", "-o", out).exit_code == 0
    assert {"overlay.mp4", "frames.png", "mask_00008.png"} <= {path.name for path in out.iterdir()}
    assert segment(clips.write_folder(tmp_path / "short", 3), "--silent", "--no-overlay", "-o", out).exit_code == 0
    found = sorted(path.name for path in out.iterdir())
    assert found == ["mask_00000.png", "mask_00001.png", "mask_00002.png", "notes.txt", "result.json"]
    assert len(json.loads((out / "result.json").read_text())["frames"]) == 3


def test_each_frame_of_a_folder_names_its_file(tmp_path: Path) -> None:
    for number in (1, 2, 10):
        Image.new("RGB", (32, 32), (number, 0, 0)).save(tmp_path / f"{number}.png")
    result = segment(tmp_path, "--silent", "--no-overlay", "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "out" / "result.json").read_text())
    assert [frame["file"] for frame in record["frames"]] == ["1.png", "2.png", "10.png"]
    assert record["written"] == ["mask_00000.png", "mask_00001.png", "mask_00002.png", "result.json"]


def test_results_among_the_frames_are_no_frames(tmp_path: Path, clips: ModuleType) -> None:
    folder = clips.write_folder(tmp_path / "frames", 3)
    for _ in range(2):
        assert segment(folder, "--silent", "-o", folder).exit_code == 0
        record = json.loads((folder / "result.json").read_text())
        assert [frame["file"] for frame in record["frames"]] == ["0000.png", "0001.png", "0002.png"]


def test_a_picture_that_is_held_is_on_the_sheet_and_what_stood_in_is_told(tmp_path: Path) -> None:
    still = filming.write(tmp_path / "still.mp4", [telling.picture(3)], telling.pitches(9))
    result = segment(still, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "out" / "result.json").read_text())
    assert (len(record["frames"]), record["wire"]) == (9, "raw")
    assert any("the last picture is held" in note for note in record["notes"])
    assert "note: the last picture is held" in " ".join(result.output.split())
    assert (tmp_path / "out" / "frames.png").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--fps", "1e-9"), "fps = 1e-09; must be 1/3600"),
        (("--fps", "nan"), "fps = nan"),
        (("--combine", "union"), "--combine union joins sound and marks, and nothing is marked. Give --points"),
        (("--mask", "large.png"), "large.png is 30000 x 3 px; a side may have 1 to 8192 px"),
        (("--mask", "drawing.png"), "none of PNG, JPEG"),
    ],
)
def test_what_cannot_be_is_one_error(
    tmp_path: Path, clips: ModuleType, options: tuple[str, str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("1", (30_000, 3)).save("large.png")
    Path("drawing.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n")
    result = segment(clips.write_folder(tmp_path / "frames", 3), "--silent", *options, "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert words in " ".join(result.output.split())
    assert not (tmp_path / "out").exists()


def test_ctrl_c_leaves_neither_files_nor_threads_nor_a_traceback(
    tmp_path: Path, clips: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(folder: Path, index: int, mask: object) -> None:
        if index == 7:
            raise KeyboardInterrupt

    monkeypatch.setattr("service.results.outputs.write_mask", interrupted)
    result = segment(clips.write_folder(tmp_path / "frames", 29), "--silent", "-o", tmp_path / "out")
    assert result.exit_code != 0
    assert "Traceback" not in result.output
    assert not (tmp_path / "out").exists()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("clips-", "sound"))]


def test_a_clip_is_not_in_memory_as_a_whole(tmp_path: Path, clips: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    ahead: list[int] = []
    clip_of = MediaStream.clips

    def counted(self: MediaStream, clip_length: int) -> Iterator[MediaClip]:
        for part in clip_of(self, clip_length):
            ahead.append(self.num_read - num_written[0])
            yield part

    num_written = [0]

    def count(folder: Path, index: int, mask: object) -> None:
        num_written[0] = index + 1

    monkeypatch.setattr(MediaStream, "clips", counted)
    monkeypatch.setattr("service.results.outputs.write_mask", count)
    result = segment(clips.write_folder(tmp_path / "frames", 60), "--silent", "--no-overlay", "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert (len(ahead), num_written) == (12, [60])
    # Clips of 5 frames: one that is written, four in work.
    assert max(ahead) <= 25


def test_the_bar_moves_while_the_overlay_is_written(
    tmp_path: Path, clips: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int]] = []
    said: list[str] = []
    num_drawn = 0
    draw = overlay.draw_mask

    def counted(*what: Any) -> Any:
        nonlocal num_drawn
        num_drawn += 1
        return draw(*what)

    class Bar:
        def add_task(self, description: str, total: int | None) -> int:
            said.append(f"{description}: {total}")
            return 0

        def update(self, task: int, *, completed: int | None = None, description: str | None = None) -> None:
            if completed is not None:
                seen.append((completed, num_drawn))
            if description is not None:
                said.append(description)

    monkeypatch.setattr(overlay, "draw_mask", counted)
    monkeypatch.setattr("service.commands.segmenting.progress_bar", lambda what: nullcontext(Bar()))
    result = segment(clips.write_folder(tmp_path / "frames", 7), "--silent", "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    # A frame counts once it is in the video.
    assert seen == [(number, number) for number in range(1, 8)]
    assert said == ["segmenting and writing: 7", "finishing the files"]
