"""Files on a card, with a decoder that stands in for it: its failures are real ones, of real bytes."""

import io
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from auralsam2_client.media.stills.frame_files import encode_frames
from model_repository.stage_runtime.engine.refusals import BadRequest
from model_repository.stage_runtime.frames.encoded import EncodedFrames
from model_repository.stage_runtime.frames.headers import read_header
from model_repository.stage_runtime.pytorch import card_frames
from model_repository.stage_runtime.pytorch.card_frames import CardFrames, agrees, frames_on_card
from model_repository.stage_runtime.pytorch.device.failures import Card

T, S = 4, 32
CPU = torch.device("cpu")
FRAMES = np.random.default_rng(3).integers(0, 256, (T, 4, 4, 3), np.uint8).repeat(8, 1).repeat(8, 2)
Files = NDArray[np.object_]


def by_pillow(file: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(file)) as image:
        return np.array(image.convert("RGB"))


class StandIn:
    """Decodes as a card's library would, all files or none, and notes what it was given."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def __call__(self, files: Sequence[bytes]) -> list[torch.Tensor]:
        self.calls.append(len(files))
        return [torch.from_numpy(by_pillow(file)).permute(2, 0, 1) for file in files]


def saved(frame: NDArray[np.uint8], format: str = "JPEG", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(frame).save(file, format, **{"quality": 95, "subsampling": 0, **options})
    return file.getvalue()


@pytest.fixture
def left() -> Counter[str]:
    return Counter()


def reader(decoder: Any, left: Counter[str]) -> CardFrames:
    return CardFrames(EncodedFrames(T, S, 1 << 16), decoder, CPU, lambda reason: left.update([reason]))


def test_a_clip_of_the_client_is_decoded_in_one_call(left: Counter[str]) -> None:
    decoder = StandIn()
    files = encode_frames(FRAMES, "jpeg")
    found = reader(decoder, left).decode(files)
    assert isinstance(found, torch.Tensor)
    assert (found.numpy() == np.stack([by_pillow(file) for file in files])).all()
    assert decoder.calls == [T]
    assert not left


OTHER_KINDS: dict[str, bytes] = {
    "progressive": saved(FRAMES[2], progressive=True),
    "4:2:0": saved(FRAMES[2], subsampling=2),
    "4:2:2": saved(FRAMES[2], subsampling=1),
    "grey": saved(FRAMES[2, ..., 0]),
    "PNG": saved(FRAMES[2], "PNG"),
    "WebP": saved(FRAMES[2], "WEBP"),
    "RGB within": saved(FRAMES[2], keep_rgb=True),
}


@pytest.mark.parametrize("name", OTHER_KINDS)
def test_another_kind_is_the_cpus_for_that_frame_alone(left: Counter[str], name: str) -> None:
    decoder = StandIn()
    files = encode_frames(FRAMES, "jpeg")
    files[2] = OTHER_KINDS[name]
    assert not read_header(files[2]).plain
    found = reader(decoder, left).decode(files)
    assert isinstance(found, torch.Tensor)
    assert (found.numpy() == np.stack([by_pillow(file) for file in files])).all()
    assert decoder.calls == [T - 1]
    assert left == {"kind": 1}


def test_a_clip_without_a_plain_jpeg_stays_in_the_hosts_memory(left: Counter[str]) -> None:
    decoder = StandIn()
    found = reader(decoder, left).decode(encode_frames(FRAMES, "lossless"))
    assert isinstance(found, np.ndarray)
    assert (found == FRAMES).all()
    assert decoder.calls == []
    assert left == {"kind": T}


def test_a_frame_on_which_the_decoder_fails_is_the_cpus(left: Counter[str]) -> None:
    files = encode_frames(FRAMES, "jpeg")
    spoilt, decoder = files[1], StandIn()

    def fails(given: Sequence[bytes]) -> list[torch.Tensor]:
        if spoilt in given:
            raise RuntimeError("nvjpegDecode failed")
        return decoder(given)

    found = reader(fails, left).decode(files)
    assert isinstance(found, torch.Tensor)
    assert (found.numpy() == np.stack([by_pillow(file) for file in files])).all()
    assert decoder.calls == [1] * (T - 1), "the others one by one"
    assert left == {"failed": 1}


def test_a_damaged_file_is_refused_by_frame_once_both_have_failed(left: Counter[str]) -> None:
    files = encode_frames(FRAMES, "jpeg")
    codes = files[3].index(b"\xff\xc4") + 5
    files[3] = files[3][:codes] + b"\xff" * 16 + files[3][codes + 16 :]
    assert read_header(files[3]).plain
    with pytest.raises(BadRequest, match="frame 3 is a damaged JPEG"):
        reader(StandIn(), left).decode(files)
    assert left == {"failed": 1}


@pytest.mark.parametrize(
    "wrong",
    [
        lambda value: value[:, :-1],
        lambda value: value.permute(1, 2, 0),
        lambda value: value.float(),
        lambda value: value.to("meta"),
        lambda value: value[:1],
    ],
    ids=["a row short", "channels last", "float", "elsewhere", "grey"],
)
def test_what_is_no_frame_of_the_build_is_not_taken(left: Counter[str], wrong: Any) -> None:
    files = encode_frames(FRAMES, "jpeg")
    decoder = StandIn()

    def gives(given: Sequence[bytes]) -> list[Any]:
        first, *others = decoder(given)
        return [wrong(first), *others]

    found = reader(gives, left).decode(files)
    assert isinstance(found, torch.Tensor)
    assert (found.numpy() == np.stack([by_pillow(file) for file in files])).all()
    assert left == {"result": 1}


def test_an_answer_of_too_few_is_none(left: Counter[str]) -> None:
    found = reader(lambda files: [], left).decode(encode_frames(FRAMES, "jpeg"))
    assert isinstance(found, np.ndarray)
    assert left == {"failed": T}


def test_a_card_that_is_gone_is_no_matter_of_the_file(left: Counter[str]) -> None:
    def gone(files: Sequence[bytes]) -> list[torch.Tensor]:
        raise torch.AcceleratorError("CUDA error: unspecified launch failure")

    with pytest.raises(torch.AcceleratorError):
        reader(gone, left).decode(encode_frames(FRAMES, "jpeg"))
    assert not left


def test_headers_are_read_before_anything_is_decoded(left: Counter[str]) -> None:
    decoder = StandIn()
    files = encode_frames(FRAMES, "jpeg")
    files[T - 1] = files[T - 1][:-1]
    with pytest.raises(BadRequest, match=f"frame {T - 1} is cut short"):
        reader(decoder, left).decode(files)
    assert decoder.calls == []


def test_a_decoder_is_taken_only_when_a_sample_comes_out_right() -> None:
    decoder = StandIn()
    assert agrees(decoder, CPU)
    assert not agrees(lambda files: [value.flip(0) for value in decoder(files)], CPU), "BGR"
    assert not agrees(lambda files: [value.clamp(8) for value in decoder(files)], CPU)
    assert not agrees(lambda files: [value[:, 1:] for value in decoder(files)], CPU)


@pytest.mark.parametrize(
    ("decoder", "said"),
    [(StandIn(), "JPEGs are decoded on a card"), (lambda files: [], "JPEGs are decoded on the CPU: not enough")],
)
def test_which_one_decodes_is_chosen_when_a_stage_loads(
    monkeypatch: pytest.MonkeyPatch, decoder: Any, said: str
) -> None:
    """With a card that is there by name: what is compared lies in the host's memory."""
    host, lines = EncodedFrames(T, S, 1 << 16), list[str]()
    compare = agrees
    monkeypatch.setattr(card_frames, "torchvision_decoder", lambda device: decoder)
    monkeypatch.setattr(card_frames, "agrees", lambda one, device: compare(one, CPU))
    chosen = frames_on_card(host, Card(torch.device("cuda", 0), "a card", ""), lines.append, lambda reason: None)
    assert isinstance(chosen, CardFrames) == said.endswith("a card")
    assert lines[0].startswith(said)
    assert frames_on_card(host, Card(CPU, "the CPU", ""), lines.append, lambda reason: None) is host
    assert len(lines) == 1


def test_a_missing_library_leaves_the_cpu_and_says_why() -> None:
    """torchvision is not part of set-up without a card."""
    host, lines = EncodedFrames(T, S, 1 << 16), list[str]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "torchvision", None)
        chosen = frames_on_card(host, Card(torch.device("cuda", 0), "a card", ""), lines.append, lambda reason: None)
    assert chosen is host
    assert "torchvision" in lines[0]
