"""Files of a run that comes frame by frame are those of one in memory, whatever number of frames was expected."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from auralsam2_client.calls.segmenting import SegmentedMedia
from auralsam2_client.errors import BadInput
from auralsam2_client.masks import FrameResult
from auralsam2_client.media.reader import Media
from auralsam2_client.prompts import Prompts
from service.results.outputs import run_of, write_outputs, write_run
from service.results.overlay_sound import OverlaySound

N, HEIGHT, WIDTH = 13, 36, 48


@pytest.fixture(scope="module", autouse=True)
def what_is_encoded() -> Iterator[None]:
    """In place of the overlay a digest of pictures and sound: libx264 does not give the same bytes each time."""

    def digest(
        path: Path, pictures: Iterable[tuple[np.ndarray, int]], rate: Fraction, sound: OverlaySound | None
    ) -> Path:
        found = hashlib.sha256()
        for picture, count in pictures:
            found.update(b"%d" % count + picture.tobytes())
            if sound is not None:
                found.update(sound.take(round(count / rate * 48_000)).tobytes())
        path.write_bytes(found.digest())
        return path

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("service.results.overlay.write_with_sound", digest)
        yield


@pytest.fixture(scope="module")
def media() -> Media:
    random = np.random.default_rng(5)
    frames = random.integers(0, 256, (N, HEIGHT, WIDTH, 3), np.uint8)
    sound = random.uniform(-0.5, 0.5, (16_000 * (N // 2 + 2), 2)).astype(np.float32)
    return Media(frames, 1.5 + np.arange(N) / 2, 2.0, sound, "drawn", N / 2)


@pytest.fixture(scope="module")
def segmented(media: Media) -> SegmentedMedia:
    random = np.random.default_rng(6)
    return SegmentedMedia(
        [
            FrameResult(
                float(time_s),
                np.asarray(random.random((HEIGHT, WIDTH)) > 0.7),
                random.random(3).astype(np.float32),
                1,
                float(random.normal()),
            )
            for time_s in media.times_s
        ],
        0,
    )


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def in_memory(media: Media, segmented: SegmentedMedia, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("memory")
    write_outputs(folder, media, segmented, model="m", precision={})
    return files(folder)


@pytest.mark.parametrize("expected", [N, N - 1, N + 1, N + 9, 2, None])
def test_files_do_not_depend_on_how_many_frames_were_expected(
    media: Media, segmented: SegmentedMedia, in_memory: dict[str, bytes], tmp_path: Path, expected: int | None
) -> None:
    again: list[int] = []

    def picture(index: int) -> np.ndarray:
        again.append(index)
        return np.asarray(media.frames[index])

    run = replace(run_of(media, model="m", precision={}), expected=expected, picture=picture)
    paths = write_run(tmp_path, zip(media.frames, segmented.frames, strict=True), run)
    assert files(tmp_path) == in_memory
    assert [path.name for path in paths] == ["overlay.mp4", "frames.png", "result.json"]
    # Within a frame of the truth nothing is read again.
    assert (again == []) == (expected is not None and abs(expected - N) <= 1)


def test_each_mask_is_written_before_the_next_frame_is_asked_for(
    media: Media, segmented: SegmentedMedia, tmp_path: Path
) -> None:
    written: list[int] = []

    def frames() -> Iterator[tuple[np.ndarray, FrameResult]]:
        for picture, result in zip(media.frames, segmented.frames, strict=True):
            written.append(len(list(tmp_path.glob(".auralsam2-unfinished-*/mask_*.png"))))
            yield picture, result

    write_run(tmp_path, frames(), run_of(media, model="m", precision={}, overlay=False))
    assert written == list(range(N))


def test_a_run_that_is_interrupted_leaves_nothing(media: Media, segmented: SegmentedMedia, tmp_path: Path) -> None:
    def frames() -> Iterator[tuple[np.ndarray, FrameResult]]:
        yield media.frames[0], segmented.frames[0]
        raise KeyboardInterrupt

    for overlay in (True, False):
        with pytest.raises(KeyboardInterrupt):
            write_run(tmp_path, frames(), run_of(media, model="m", precision={}, overlay=overlay))
        assert list(tmp_path.iterdir()) == []
    with pytest.raises(BadInput, match="0 frames"):
        write_run(tmp_path, iter([]), run_of(media, model="m", precision={}, overlay=False))
    assert list(tmp_path.iterdir()) == []


def test_prompts_are_drawn_on_their_frame_alone(
    media: Media, segmented: SegmentedMedia, in_memory: dict[str, bytes], tmp_path: Path
) -> None:
    marked = Prompts(points=[(20.0, 20.0, "+")], frame=0)
    run = replace(run_of(media, model="m", precision={}, prompts=marked), expected=None)
    write_run(tmp_path, zip(media.frames, segmented.frames, strict=True), run)
    write_outputs(tmp_path / "memory", media, segmented, model="m", precision={}, prompts=marked)
    drawn = files(tmp_path / "memory")
    assert {name: (tmp_path / name).read_bytes() for name in drawn} == drawn
    assert drawn["frames.png"] != in_memory["frames.png"]
