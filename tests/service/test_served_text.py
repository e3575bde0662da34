"""A build with text on the real server: every way of saying what is meant is the network's, and bad text is refused."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import tritonclient.grpc as grpc
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from auralsam2.data.samples import Sample
from auralsam2.data.world.held_out import read_split
from auralsam2.model.sounding_sam2 import ClipOutput
from auralsam2.model.with_text import load_with_text
from auralsam2.network.image_encoder import normalise
from auralsam2.network.log_mel import LogMel
from auralsam2.prompted.prompts import PREVIOUS_LIMIT, FramePrompt
from auralsam2_client.calls.async_client import AsyncClient
from auralsam2_client.calls.client import Client
from auralsam2_client.calls.segmentation import Segmentation
from auralsam2_client.calls.wire_errors import translate
from auralsam2_client.contract import ENSEMBLE, Reason
from auralsam2_client.errors import BadInput
from auralsam2_client.prompts import Prompts
from export.settings import ExportSettings
from service.builds.golden import Golden
from service.server.serving import serve_build
from tests.builds import built_once, reading, served_once

SENTENCE, OTHER = "The leftmost shape that whistles!", "a plain ring"
POINT = (112.0, 112.0)
MARK = Prompts(points=[(*POINT, "+")], frame=1)

Logits = NDArray[np.float32]


@pytest.fixture(scope="module")
def settings() -> ExportSettings:
    return reading()


@pytest.fixture(scope="module")
def client(settings: ExportSettings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    build = served_once(built_once(settings), tmp_path_factory)
    with serve_build(build, environ={}) as launcher, Client(launcher.config.grpc_url) as client:
        yield client


@pytest.fixture(scope="module")
def sample(settings: ExportSettings) -> Sample:
    return next(read_split("multi", 1, size=settings.size, num_frames=settings.num_frames))


@pytest.fixture(scope="module")
def wanted(settings: ExportSettings, sample: Sample) -> dict[str, Logits]:
    """Logits of the network, by what says what is meant."""
    network, say, _ = load_with_text(settings.preset, settings.size, settings.checkpoint)
    frames, hear = normalise(torch.from_numpy(sample.frames)), LogMel()
    heard = hear(torch.from_numpy(sample.windows))
    silence = hear(torch.zeros(settings.num_frames, *sample.windows.shape[1:]))

    def masks(sound: torch.Tensor, sentence: str) -> torch.Tensor:
        answer: ClipOutput = network(frames, sound, text=say(sentence), conditioning_frame=settings.conditioning_frame)
        return answer.select(settings.read_out)

    with torch.no_grad():
        found = {
            "audio": masks(heard, ""),
            "audio+text": masks(heard, SENTENCE),
            "text": masks(silence, SENTENCE),
        }
        prompts = [FramePrompt(1, torch.tensor([POINT]), torch.tensor([1]))]
        found["points"] = network.track_prompts(network.image_features(frames), prompts).masks
        for by in ("text", "audio+text"):
            one, other = (found[name].clamp(-PREVIOUS_LIMIT, PREVIOUS_LIMIT) for name in (by, "points"))
            found[f"{by}+points"] = (one + other) / 2
    return {name: logits.numpy() for name, logits in found.items()}


def agree(found: Logits, wanted: Logits) -> bool:
    """Logits reach from -40 to 10. What rounding moves is a thousandth of what a sentence does, which is 0.2."""
    return bool(np.abs(found - wanted).max() < 0.01)


def test_every_way_of_asking_is_answered_as_the_network_does(
    client: Client, sample: Sample, wanted: dict[str, Logits]
) -> None:
    answers = {
        "audio": client.segment(sample.frames, sample.windows),
        "audio+text": client.segment(sample.frames, sample.windows, text=SENTENCE),
        "text": client.segment(sample.frames, None, text=SENTENCE, use_audio=False),
        "points": client.segment(sample.frames, None, prompts=MARK, use_audio=False),
        "text+points": client.segment(sample.frames, None, text=SENTENCE, prompts=MARK, use_audio=False),
        "audio+text+points": client.segment(sample.frames, sample.windows, text=SENTENCE, prompts=MARK),
    }
    for name, answer in answers.items():
        assert answer.mode == name
        assert agree(answer.mask_logits, wanted[name]), name
    assert answers["audio"].build is not None
    assert answers["audio"].build["text"] == "yes"
    ways = [*wanted]
    for number, one in enumerate(ways):
        for other in ways[:number]:
            assert np.abs(wanted[one] - wanted[other]).max() > 0.05, "answers that are one would agree by themselves"


def test_the_asyncio_client_says_it_too(client: Client, sample: Sample, wanted: dict[str, Logits]) -> None:
    async def ask_for_it() -> Segmentation:
        async with AsyncClient(client.url) as other:
            return await other.segment(sample.frames, None, text=SENTENCE, use_audio=False)

    answer = asyncio.run(ask_for_it())
    assert answer.mode == "text"
    assert agree(answer.mask_logits, wanted["text"])


def test_the_start_has_proven_a_sentence_and_the_manifest_says_so(settings: ExportSettings) -> None:
    build = built_once(settings)
    record = json.loads((build / "manifest.json").read_text())
    assert record["text"] is True
    assert record["conditioning_frame"] == 1
    assert {"text_encoder", "chain by audio+text", "chain by text"} <= {each["stage"] for each in record["parity"]}
    assert {f"models/aural_fuser/1/{name}" for name in ("text_encoder.onnx", "vocabulary.json")} <= set(record["files"])
    asked = {request.path: request.rounds[0].text for request in Golden.load(build).requests}
    assert {path for path, text in asked.items() if text} == {"audio+text", "text"}


def test_text_without_a_word_says_nothing(client: Client, sample: Sample) -> None:
    heard = client.segment(sample.frames, sample.windows)
    empty = client.infer(
        sample.frames,
        sample.windows,
        outputs=["MASK_LOGITS", "PROMPT_MODE"],
        prompts={"TEXT": np.array([b" ... "], np.object_)},
    )
    assert empty["PROMPT_MODE"].tolist() == [b"audio"]
    assert empty["MASK_LOGITS"].tobytes() == heard.mask_logits.tobytes()
    with pytest.raises(BadInput, match="nothing says what to segment"):
        client.segment(sample.frames, None, text="...", use_audio=False)


def test_a_session_goes_by_its_sound(client: Client, sample: Sample, wanted: dict[str, Logits]) -> None:
    with client.session(sample.frames, sample.windows) as session:
        assert agree(session.segment().mask_logits, wanted["audio"])


def ask(client: Client, sample: Sample, text: NDArray[np.object_], use_audio: bool = True) -> Any:
    """Ask as a raw client does, whom nothing checks before the server."""
    tensors: dict[str, NDArray[Any]] = {
        "FRAMES": sample.frames,
        "AUDIO": sample.windows,
        "TEXT": text,
        "USE_AUDIO": np.array([use_audio]),
    }
    kinds = {"FRAMES": "UINT8", "AUDIO": "FP32", "TEXT": "BYTES", "USE_AUDIO": "BOOL"}
    inputs = [
        grpc.InferInput(name, list(value.shape), kinds[name]).set_data_from_numpy(value)
        for name, value in tensors.items()
    ]
    with grpc.InferenceServerClient(client.url) as raw:
        return raw.infer(ENSEMBLE, inputs, client_timeout=60)


@pytest.mark.parametrize(
    ("text", "use_audio", "words"),
    [
        ([b"star " * 26], True, "TEXT: text of 26 words; 25 are read. Say it in fewer"),
        ([b"the \xff star"], True, "TEXT is no UTF-8: byte 0xff at 4. Encode the sentence as UTF-8"),
        ([b"..."], False, "nothing says what to segment"),
        # What the configuration itself excludes is told in the server's own words.
        ([b"a star", b"a ring"], True, "Expected [1], got [2]"),
    ],
)
def test_bad_text_is_refused_with_the_way_out(
    client: Client, sample: Sample, text: list[bytes], use_audio: bool, words: str
) -> None:
    with pytest.raises(InferenceServerException) as caught:
        ask(client, sample, np.array(text, np.object_), use_audio)
    assert str(caught.value.status()) == "StatusCode.INVALID_ARGUMENT"
    error = translate(caught.value, url=client.url, timeout_s=1)
    assert isinstance(error, BadInput)
    assert error.code == Reason.BAD_REQUEST
    assert words in str(error)


def test_the_clip_after_bad_text_is_answered(client: Client, sample: Sample, wanted: dict[str, Logits]) -> None:
    with pytest.raises(InferenceServerException):
        ask(client, sample, np.array([b"\xff"], np.object_))
    assert agree(client.segment(sample.frames, sample.windows, text=SENTENCE).mask_logits, wanted["audio+text"])
    assert not agree(client.segment(sample.frames, sample.windows, text=OTHER).mask_logits, wanted["audio+text"])
