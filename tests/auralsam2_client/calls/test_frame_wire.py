"""How frames go to the server: by build and size of the clip, or by name; refused where it cannot be."""

import numpy as np
import pytest

from auralsam2_client.calls import local_memory
from auralsam2_client.calls.client import Client
from auralsam2_client.calls.frame_wire import WIRES, choose_wire, coded_clip_tensors
from auralsam2_client.calls.local_memory import place
from auralsam2_client.calls.wire import Call, ClipShape
from auralsam2_client.errors import BadInput, ConfigError
from auralsam2_client.media.stills.frame_files import CODINGS, encode_frames
from model_repository.stage_runtime.frames.encoded import EncodedFrames

SOUND = np.zeros((5, 15600, 2), np.float32)


def shape(image_size: int = 512, **build: bool) -> ClipShape:
    return ClipShape(5, image_size, **build)


def test_auto_is_jpeg_for_large_clips_of_builds_that_bear_it() -> None:
    bears, moves = {"takes_files": True, "jpeg_keeps_masks": True}, {"takes_files": True}
    assert choose_wire("auto", shape(**bears)) == "jpeg"
    assert choose_wire("auto", shape(256, **bears)) == "raw", "a clip of 1 MB"
    assert choose_wire("auto", shape(1024, **moves)) == "raw"
    assert choose_wire("auto", shape(1024)) == "raw"


@pytest.mark.parametrize("wire", ["raw", *CODINGS])
def test_a_name_forces_it(wire: str) -> None:
    assert choose_wire(wire, shape(64, takes_files=True)) == wire


@pytest.mark.parametrize("wire", CODINGS)
def test_a_build_that_takes_raw_frames_alone_is_told(wire: str) -> None:
    with pytest.raises(ConfigError, match=f"wire = '{wire}'.*--target cpu or cuda, or take wire=\"raw\""):
        choose_wire(wire, shape())


def test_an_unknown_name_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(BadInput, match="wire = 'png'; must be one of " + ", ".join(WIRES)):
        Client(wire="png")


def test_a_clip_has_its_frames_in_one_form(frames: np.ndarray) -> None:
    assert coded_clip_tensors(frames, SOUND, {}, "raw").keys() == {"FRAMES", "AUDIO"}
    coded = coded_clip_tensors(frames, SOUND, {"STEP": np.zeros(1, np.int32)}, "lossless")
    assert coded.keys() == {"FRAMES_ENCODED", "AUDIO", "STEP"}
    reader = EncodedFrames(5, 64, frames.nbytes)
    assert (reader.decode(coded["FRAMES_ENCODED"]) == frames).all()
    jpeg = encode_frames(frames, "jpeg")
    assert sum(map(len, jpeg)) < sum(map(len, coded["FRAMES_ENCODED"])) < frames.nbytes
    assert np.abs(reader.decode(jpeg).astype(int) - frames).mean() < 3


def test_the_last_frame_of_a_short_clip_is_encoded_once(frames: np.ndarray) -> None:
    filled = np.concatenate([frames[:2], np.repeat(frames[1:2], 3, axis=0)])
    files = encode_frames(filled, "lossless")
    assert len({id(file) for file in files}) == 2


@pytest.fixture
def frames() -> np.ndarray:
    small = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), np.uint8)
    smooth = small.repeat(8, axis=1).repeat(8, axis=2).astype(np.float32)
    for axis in (1, 2):
        smooth = np.mean([np.roll(smooth, step, axis) for step in range(8)], axis=0, dtype=np.float32)
    return smooth.astype(np.uint8)


def test_shared_memory_holds_raw_frames_and_no_files(frames: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    with Client("127.0.0.1:1", local_memory=True) as client, Client("127.0.0.1:1") as far:
        assert (client.wire, far.wire) == ("raw", "auto")
    monkeypatch.setattr(local_memory, "LEAST_BYTES", 1)
    call = Call(coded_clip_tensors(frames, SOUND, {}, "lossless"), ["IOU"])
    assert set(place(call, shape(16, takes_files=True)).inputs) == {"AUDIO"}, "a file's bytes are elsewhere"
