"""Frames as files on the real server: the masks of raw frames in every way of asking; bad files are refused."""

import io
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from numpy.typing import NDArray
from PIL import Image
from tritonclient.utils import InferenceServerException

from auralsam2_client.calls.async_client import AsyncClient
from auralsam2_client.calls.client import Client
from auralsam2_client.contract import Reason, read_error
from auralsam2_client.media.reader import Media
from auralsam2_client.media.stills.frame_files import encode_frames
from auralsam2_client.media.stills.frames import resize_frames
from auralsam2_client.prompts import Prompts
from model_repository.stage_runtime.frames.encoded import EncodedFrames
from service.machine.shared_memory import most_bytes
from service.server.config import ServerConfig
from service.server.guardian import shared_memory_of
from tests.service.marks import CLIP, FRAME, GOOD, LOUD, jaccard, middle_of, raw, same

Frames = NDArray[np.uint8]
Files = NDArray[np.object_]


@pytest.fixture(scope="module")
def url(served_compact: Any) -> str:
    return str(served_compact.config.grpc_url)


@pytest.fixture(scope="module")
def frames(media: Media) -> Frames:
    return resize_frames(media.frames, 256)


def ask(config: ServerConfig, **tensors: NDArray[Any]) -> Any:
    return raw(config, "auralsam2", {"AUDIO": CLIP["AUDIO"], **tensors})


def test_a_lossless_clip_is_the_raw_one_in_every_way_of_asking(
    url: str, media: Media, heard: NDArray[np.float32], truth: NDArray[np.bool_]
) -> None:
    x, y = middle_of(truth[LOUD])
    point = Prompts(points=[(x, y, "+")], frame=FRAME)
    answers = []
    for wire in ("raw", "lossless"):
        with Client(url, wire=wire) as client:
            assert client.chosen_wire() == wire
            own = [client.segment(media.frames, heard)]
            own.append(client.segment(media.frames, heard, prompts=point))
            own.append(client.segment(media.frames, None, prompts=point, use_audio=False))
            with client.session(media.frames, heard) as session:
                own.append(session.segment())
                own.append(session.click(x, y, frame=FRAME))
            with client.session(media.frames, heard, use_audio=False) as session:
                own.append(session.click(x, y, frame=FRAME))
        answers.append(own)
    for found, wanted in zip(*answers, strict=True):
        assert same(found, wanted)
        assert found.mode == wanted.mode
    assert not same(answers[0][0], answers[0][1])


@pytest.mark.asyncio
async def test_a_jpeg_clip_is_what_its_pictures_are(
    url: str, media: Media, frames: Frames, heard: NDArray[np.float32]
) -> None:
    files = encode_frames(frames, "jpeg")
    seen = EncodedFrames(5, 256, 1 << 20).decode(files)
    assert 0 < np.abs(seen.astype(int) - frames).max() < 40
    async with AsyncClient(url, wire="jpeg") as client:
        assert await client.chosen_wire() == "jpeg"
        found = await client.segment(media.frames, heard)
    with Client(url) as client:
        assert client.chosen_wire() == "raw", "a clip of 1 MB goes raw by itself"
        wanted, without = client.segment(seen, heard), client.segment(media.frames, heard)
    assert found.mask_logits.tobytes() == wanted.mask_logits.tobytes()
    assert jaccard(found.mask_logits > 0, without.mask_logits > 0) > 0.95


def picture(frame: Frames, format: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(frame).save(file, format, **options)
    return file.getvalue()


BAD_FILES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "cut short": (lambda data: data[:-20], "frame 3 is cut short"),
    "another size": (lambda data: picture(np.zeros((256, 255, 3), np.uint8)), "frame 3 is a PNG of 255 x 256 px"),
    "another format": (lambda data: picture(np.zeros((256, 256, 3), np.uint8), "BMP"), "frame 3 begins with 42 4d"),
    "empty": (lambda data: b"", "frame 3 begins with nothing"),
    "too many bytes": (lambda data: data + bytes(1 << 19), "frame 3 has"),
    "damaged": (lambda data: data[:400] + bytes(100) + data[500:], "frame 3 is a damaged PNG"),
}


@pytest.mark.parametrize("name", BAD_FILES)
@pytest.mark.parametrize("model", ["auralsam2", "auralsam2_session"])
def test_bad_files_are_refused_by_frame_and_the_next_clip_is_answered(
    served_compact: Any, frames: Frames, name: str, model: str
) -> None:
    spoil, words = BAD_FILES[name]
    files: Files = np.array([picture(frame) for frame in frames], np.object_)
    files[3] = spoil(files[3])
    tensors = {"FRAMES_ENCODED": files, "AUDIO": CLIP["AUDIO"]}
    once = {"END": np.array([True])} if model == "auralsam2_session" else {}
    with pytest.raises(InferenceServerException) as refusal:
        raw(served_compact.config, model, tensors | once)
    assert refusal.value.status() == "StatusCode.INVALID_ARGUMENT", refusal.value.message()
    reason, said = read_error(refusal.value.message())
    assert reason is Reason.BAD_REQUEST
    assert words in said
    files[3] = files[2]
    assert ask(served_compact.config, FRAMES_ENCODED=files).as_numpy("IOU").shape == (5, 3)
    assert served_compact.launcher.fault() is None


def test_exactly_one_form_of_the_frames_comes(served_compact: Any, frames: Frames) -> None:
    files = encode_frames(frames, "jpeg")
    for forms, words in (({}, "neither came"), ({"FRAMES": frames, "FRAMES_ENCODED": files}, "both came")):
        with pytest.raises(InferenceServerException) as refusal:
            ask(served_compact.config, **forms)
        assert read_error(refusal.value.message())[0] is Reason.BAD_REQUEST
        assert words in refusal.value.message()
    assert ask(served_compact.config, FRAMES=frames, **GOOD).as_numpy("IOU").shape == (5, 3)


@pytest.mark.parametrize("forms", [("FRAMES",), ("FRAMES_ENCODED",), ()])
def test_sound_that_does_not_come_is_named(served_compact: Any, frames: Frames, forms: tuple[str, ...]) -> None:
    clip: dict[str, NDArray[Any]] = {"FRAMES": frames, "FRAMES_ENCODED": encode_frames(frames, "jpeg")}
    given = {name: clip[name] for name in forms}
    with pytest.raises(InferenceServerException) as refusal:
        raw(served_compact.config, "auralsam2", given)
    assert refusal.value.status() == "StatusCode.INVALID_ARGUMENT"
    reason, said = read_error(refusal.value.message())
    assert reason is Reason.BAD_REQUEST
    assert said.startswith("AUDIO did not come")


def test_sound_may_be_left_out_where_nobody_hears_it(served_compact: Any, frames: Frames) -> None:
    given = {"FRAMES": frames, "USE_AUDIO": np.array([False]), **GOOD}
    without = raw(served_compact.config, "auralsam2", given).as_numpy("MASK_LOGITS")
    with_zeros = raw(served_compact.config, "auralsam2", {**given, "AUDIO": np.zeros_like(CLIP["AUDIO"])})
    assert without.tobytes() == with_zeros.as_numpy("MASK_LOGITS").tobytes()


def test_a_request_beyond_all_clips_leaves_no_large_region_behind(served_compact: Any, frames: Frames) -> None:
    config, mark = served_compact.config, served_compact.launcher.mark
    limit = most_bytes(config.models, config.shm_default_byte_size, config.shm_growth_byte_size)
    hostile: Files = np.array([bytes(limit), b"", b"", b"", b""], np.object_)
    for _ in range(2):
        with pytest.raises(InferenceServerException):
            ask(config, FRAMES_ENCODED=hostile)
        assert all(path.stat().st_size <= limit for path in shared_memory_of(mark))
        assert ask(config, FRAMES=frames).as_numpy("IOU").shape == (5, 3)
    assert served_compact.launcher.fault() is None


def test_bytes_whose_lengths_lie_kill_no_stage(served_compact: Any, url: str) -> None:
    """As no library writes them: a length beyond the data, data beyond the lengths, none at all."""
    whole = b"".join(struct.pack("<I", 4) + b"\xff\xd8\xff\xd9" for _ in range(5))
    for content in (struct.pack("<I", 1 << 31) + whole, whole + whole, whole[:-2], whole[:3], b""):
        files = triton.InferInput("FRAMES_ENCODED", [5], "BYTES")
        files._raw_content = content
        audio = triton.InferInput("AUDIO", [5, 15600, 2], "FP32").set_data_from_numpy(CLIP["AUDIO"])
        with triton.InferenceServerClient(url) as wire, pytest.raises(InferenceServerException):
            wire.infer("auralsam2", [files, audio], client_timeout=60)
    assert ask(served_compact.config, FRAMES=CLIP["FRAMES"]).as_numpy("IOU").shape == (5, 3)
    assert served_compact.launcher.fault() is None
