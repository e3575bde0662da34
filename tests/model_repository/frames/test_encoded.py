"""FRAMES_ENCODED: decoded as Pillow does, or refused by frame with nothing decoded, whatever a file holds."""

import io
import resource
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from auralsam2_client.media.stills.frame_files import encode_frames
from model_repository.stage_runtime.engine import EngineError
from model_repository.stage_runtime.engine.refusals import BadRequest
from model_repository.stage_runtime.frames import encoded
from model_repository.stage_runtime.frames.encoded import EncodedFrames
from model_repository.stage_runtime.frames.stages import FramesStage
from tests.conftest import REPOSITORY
from tests.model_repository.frames.test_headers import file_of, png

T, S = 3, 48
FRAMES = np.random.default_rng(0).integers(0, 256, (T, S // 8, S // 8, 3), np.uint8).repeat(8, 1).repeat(8, 2)
LIMIT = 3 * S * S + 65536


@pytest.fixture
def reader() -> EncodedFrames:
    return EncodedFrames(T, S, LIMIT)


def files(*data: bytes) -> NDArray[np.object_]:
    found = np.empty(len(data), np.object_)
    found[:] = data
    return found


def saved(format: str, mode: str = "RGB", **options: Any) -> bytes:
    return file_of(Image.fromarray(FRAMES[0]).convert(mode), format, **options)


def test_lossless_files_are_the_frames(reader: EncodedFrames) -> None:
    assert (reader.decode(encode_frames(FRAMES, "lossless")) == FRAMES).all()
    mixed = files(saved("PNG"), saved("WEBP", lossless=True), saved("PNG", optimize=True))
    assert (reader.decode(mixed) == FRAMES[0]).all()


def test_jpeg_files_are_what_pillow_makes_of_them(reader: EncodedFrames) -> None:
    coded = encode_frames(FRAMES, "jpeg")
    wanted = np.stack([np.asarray(Image.open(io.BytesIO(data))) for data in coded])
    found = reader.decode(coded)
    assert (found == wanted).all()
    assert 0 < np.abs(found.astype(int) - FRAMES).max() < 32


@pytest.mark.parametrize(("format", "mode"), [("JPEG", "L"), ("PNG", "L"), ("PNG", "P"), ("PNG", "1")])
def test_grey_and_palettes_become_rgb(reader: EncodedFrames, format: str, mode: str) -> None:
    data = saved(format, mode)
    wanted = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert (reader.decode(files(*[data] * T)) == wanted).all()


@pytest.mark.parametrize("frame", range(T))
def test_one_bad_file_is_named_and_nothing_is_decoded(
    reader: EncodedFrames, frame: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoded, "ThreadPoolExecutor", None)
    good = saved("PNG")
    bad = {
        "is a PNG of 30000 x 30000 px; this build takes 48 x 48": png(30_000, 30_000),
        "is a JPEG of 40 x 48 px": file_of(Image.fromarray(FRAMES[0][:, :40]), "JPEG"),
        f"has {LIMIT + 1} bytes; at most {LIMIT} are taken": good + bytes(LIMIT + 1 - len(good)),
        "is cut short": good[:-1],
        "begins with 42 4d": saved("BMP"),
    }
    for words, data in bad.items():
        given = files(*[good] * T)
        given[frame] = data
        with pytest.raises(BadRequest, match=f"FRAMES_ENCODED: frame {frame} {words}"):
            reader.decode(given)


def test_a_clip_has_as_many_files_as_frames(reader: EncodedFrames) -> None:
    with pytest.raises(BadRequest, match=r"\[2\]; must be \[3\]"):
        reader.check(files(saved("PNG"), saved("PNG")))


def test_a_file_that_is_whole_and_damaged_is_named(reader: EncodedFrames) -> None:
    good = saved("PNG")
    middle = good.index(b"IDAT") + 10
    damaged = good[:middle] + bytes(byte ^ 0xFF for byte in good[middle : middle + 8]) + good[middle + 8 :]
    with pytest.raises(BadRequest, match="frame 1 is a damaged PNG"):
        reader.decode(files(good, damaged, good))
    assert (reader.decode(files(good, good, good)) == FRAMES[0]).all(), "the next clip is answered"


def test_a_stage_without_the_library_says_so_when_it_loads(
    reader: EncodedFrames, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader.find_library()
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(EngineError, match=r"Pillow is not in the server's Python .* `make setup`"):
        reader.find_library()


def test_the_stage_gets_raw_frames_in_either_form(reader: EncodedFrames) -> None:
    given: list[dict[str, Any]] = []

    def stage(inputs: Any) -> dict[str, Any]:
        given.append({name: value.copy() for name, value in inputs.items()})
        return {}

    logic, tokens = FramesStage(stage, reader), {"AUDIO_TOKENS": np.ones(T)}
    logic(tokens, {"FRAMES": FRAMES})
    logic(tokens, {"FRAMES_ENCODED": encode_frames(FRAMES, "lossless")})
    for call in given:
        assert call.keys() == {"FRAMES", "AUDIO_TOKENS"}
        assert (call["FRAMES"] == FRAMES).all()
    for forms, words in (({}, "neither came"), ({"FRAMES": FRAMES, "FRAMES_ENCODED": files()}, "both came")):
        with pytest.raises(BadRequest, match=words):
            logic(tokens, forms)
    assert len(given) == 2


FUZZ_PROGRAM = "from tests.model_repository.frames.test_encoded import fuzz; fuzz()"
NUM_MUTATED, FUZZ_SIDE = 300, 256
MAX_GROWTH_BYTES = 200_000_000


def test_mutated_files_are_refused_or_decoded_in_bounded_memory() -> None:
    """In a process of its own: a crash is seen, and its peak memory is its own."""
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FUZZ_PROGRAM], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr[-2000:]
    refused, decoded, growth = map(int, found.stdout.split())
    assert refused + decoded == NUM_MUTATED
    assert refused > NUM_MUTATED // 4, found.stdout
    assert decoded > NUM_MUTATED // 20, found.stdout
    assert growth < MAX_GROWTH_BYTES


def fuzz() -> None:
    """Print how many of the mutated files were refused, how many decoded, and by how many bytes memory grew."""
    generator = np.random.default_rng(20)
    frame = np.asarray(
        Image.fromarray(generator.integers(0, 256, (16, 16, 3), np.uint8)).resize((FUZZ_SIDE, FUZZ_SIDE))
    )
    image, reader = Image.fromarray(frame), EncodedFrames(1, FUZZ_SIDE, 3 * FUZZ_SIDE**2)
    seeds = [
        file_of(image, "JPEG", quality=95, subsampling=0),
        file_of(image, "JPEG", progressive=True, exif=b"Exif\0\0" + bytes(60)),
        file_of(image, "PNG"),
        file_of(image, "WEBP", lossless=True),
        file_of(image, "WEBP", quality=80),
        file_of(image, "WEBP", exif=b"Exif\0\0" + bytes(60)),
    ]
    for data in seeds:
        reader.decode(files(data))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    counts = {"refused": 0, "decoded": 0}
    for number in range(NUM_MUTATED):
        data = mutate(seeds[number % len(seeds)], number // len(seeds) % 5, generator)
        try:
            assert reader.decode(files(data)).shape == (1, FUZZ_SIDE, FUZZ_SIDE, 3)
            counts["decoded"] += 1
        except BadRequest:
            counts["refused"] += 1
    growth = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    print(*counts.values(), growth)


def mutate(data: bytes, way: int, generator: np.random.Generator) -> bytes:
    """Flip bits: one anywhere, many anywhere, in the header; cut with the end kept; put large numbers for others."""
    changed = np.frombuffer(data, np.uint8).copy()
    if way == 0:
        changed[generator.integers(len(data))] ^= 1 << generator.integers(8)
    elif way == 1:
        changed[generator.integers(0, len(data), 20)] ^= np.uint8(0x55)
    elif way == 2:
        changed[generator.integers(0, 200, 3)] = generator.integers(0, 256, 3)
    elif way == 3:
        start = int(generator.integers(len(data) // 2))
        changed = np.delete(changed, np.s_[start : start + int(generator.integers(1, 400))])
    else:
        start = int(generator.integers(2, 40))
        changed[start : start + 4] = np.frombuffer(b"\x75\x30\x75\x30", np.uint8)
    return changed.tobytes()
