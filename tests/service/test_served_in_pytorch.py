"""Builds that compute in PyTorch, served without a card: answers of the CPU build, the same in both layouts."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
import tritonclient.grpc as triton
from numpy.typing import NDArray

from auralsam2 import AuralSAM2
from auralsam2.network import image_encoder, mask_decoder
from auralsam2.prompted.prompted_tracker import track_prompts
from auralsam2.prompted.prompts import FramePrompt
from auralsam2_client.calls.client import Client
from auralsam2_client.calls.segmentation import Segmentation
from auralsam2_client.contract import ENSEMBLE, RESULTS, STAGE_NAMES, Reason, read_error
from auralsam2_client.errors import BadInput, ServerUnavailable
from auralsam2_client.media.reader import Media
from auralsam2_client.prompts import Prompts, frame_prompt
from export.gates.sample_clip import sample_audio, sample_frames
from export.loading import load_aural_sam2
from service.monitoring.metrics import fetch, in_flight, read_page, total
from service.server.launcher import Launcher
from service.server.serving import serve_build
from tests.builds import IN_PYTORCH, TINY, TINY_IN_PYTORCH, built_once, copy_to_serve, in_both_layouts, served_once
from tests.service.marks import FRAME, GOOD, LOUD, SILENT, box_of, middle_of, raw, same
from tests.service.test_served_network import AGREEMENT, agreement, network_answer
from tests.service.toy.running import eventually, settled_counters

Answers = dict[str, Segmentation]


def ask_everything(client: Client, media: Media, heard: NDArray[np.float32], truth: NDArray[np.bool_]) -> Answers:
    """By sound, by every kind of prompt alone and with sound, by every rule, and the rounds of two sessions."""
    x, y = middle_of(truth[LOUD])
    other_x, other_y = middle_of(truth[SILENT])
    prompts = {
        "points": Prompts(points=[(x, y, "+"), (other_x, other_y, "-")], frame=FRAME),
        "box": Prompts(box=box_of(truth[LOUD]), frame=3),
        "mask": Prompts(mask=truth[LOUD], frame=FRAME),
        "points+box": Prompts(points=[(x, y, "+")], box=box_of(truth[LOUD]), frame=4),
    }
    answers = {"audio": client.segment(media.frames, heard)}
    for name, prompt in prompts.items():
        answers[name] = client.segment(media.frames, None, prompts=prompt, use_audio=False)
        answers[f"audio+{name}"] = client.segment(media.frames, heard, prompts=prompt)
    for form in ("float16", "bits"):
        answers[form] = client.segment(media.frames, heard, answer=form)
    for rule in ("best_iou", "union"):
        answers[rule] = client.segment(media.frames, heard, prompts=prompts["box"], combination=rule)
    with client.session(media.frames, heard) as session:
        answers["first round"] = session.segment()
        answers["click"] = session.click(x, y, frame=FRAME, propagate=False)
        answers["tracked"] = session.propagate()
        answers["another click"] = session.click(other_x, other_y, "-", frame=3)
    with client.session(media.frames, heard, use_audio=False) as session:
        answers["without sound"] = session.click(x, y, frame=2)
    with Client(client.url, wire="lossless") as encoded:
        answers["files"] = encoded.segment(media.frames, heard)
        answers["files and points"] = encoded.segment(media.frames, heard, prompts=prompts["points"])
        with encoded.session(media.frames, heard) as session:
            answers["files in a session"] = session.segment()
    for name, as_raw in (
        ("files", "audio"),
        ("files and points", "audio+points"),
        ("files in a session", "first round"),
    ):
        assert same(answers[name], answers[as_raw]), name
    return answers


def masks_of(network: AuralSAM2, frames: NDArray[np.uint8], prompts: Prompts) -> NDArray[np.float32]:
    """What the network in PyTorch makes of marks alone."""
    num_frames, size = frames.shape[:2]
    prompt = frame_prompt(prompts, num_frames, size, size, size)
    mask = None if prompt.mask is None else torch.from_numpy(prompt.mask)
    with torch.no_grad():
        found = track_prompts(
            network.v_model,
            network.image_features(image_encoder.normalise(torch.from_numpy(frames))),
            [FramePrompt(prompt.frame, torch.from_numpy(prompt.coords), torch.from_numpy(prompt.labels), mask)],
            network.positions(),
            mask_decoder.dense_positions(network.v_model),
        )
    return np.asarray(found.masks)


@contextmanager
def serve(layout: str, tmp_path_factory: pytest.TempPathFactory, **changed: Any) -> Iterator[Launcher]:
    build = served_once(in_both_layouts(IN_PYTORCH)[layout], tmp_path_factory)
    # One thread for each stage: five processes would share the cores of a small machine.
    with serve_build(build, environ={"AURALSAM2_NUM_THREADS": "1"}, **changed) as launcher:
        yield launcher


@pytest.fixture(scope="module")
def one_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    with serve("one-process", tmp_path_factory, max_sessions=2) as launcher:
        yield launcher


@pytest.fixture
def client(one_process: Launcher) -> Iterator[Client]:
    with Client(one_process.config.grpc_url) as client:
        yield client


@pytest.fixture(scope="module")
def answers(one_process: Launcher, media: Media, heard: NDArray[np.float32], truth: NDArray[np.bool_]) -> Answers:
    with Client(one_process.config.grpc_url) as client:
        return ask_everything(client, media, heard, truth)


def test_every_mode_and_round_is_answered_as_by_the_cpu_build(
    served_compact: Any, answers: Answers, media: Media, heard: NDArray[np.float32], truth: NDArray[np.bool_]
) -> None:
    with Client(served_compact.config.grpc_url) as client:
        wanted = ask_everything(client, media, heard, truth)
    assert set(answers) == set(wanted)
    for name, answer in wanted.items():
        assert answers[name].mode == answer.mode, name
        assert agreement(answers[name].mask_logits, answer.mask_logits) >= AGREEMENT, name
        np.testing.assert_allclose(answers[name].iou, answer.iou, atol=1e-2, err_msg=name)
    assert any(0.01 < (answer.mask_logits > 0).mean() < 0.9 for answer in wanted.values())


def test_both_layouts_give_the_same_bytes(
    answers: Answers,
    tmp_path_factory: pytest.TempPathFactory,
    media: Media,
    heard: NDArray[np.float32],
    truth: NDArray[np.bool_],
) -> None:
    with serve("ensemble", tmp_path_factory) as launcher, Client(launcher.config.grpc_url) as client:
        found = ask_everything(client, media, heard, truth)
        counters = fetch(launcher.config.metrics_url)
    for name, answer in answers.items():
        assert found[name].mode == answer.mode
        assert found[name].mask_logits.tobytes() == answer.mask_logits.tobytes(), name
        assert found[name].iou.tobytes() == answer.iou.tobytes(), name
    assert all(counters[stage].success > 0 for stage in STAGE_NAMES), "each stage is a model of its own"


def test_run_lengths_are_those_of_the_logits(
    client: Client, answers: Answers, media: Media, heard: NDArray[np.float32]
) -> None:
    found = client.segment(media.frames, heard, answer="rle")
    np.testing.assert_array_equal(found.masks(), answers["audio"].masks())
    with client.session(media.frames, heard, answer="rle") as session:
        np.testing.assert_array_equal(session.segment().masks(), found.masks())


def test_a_client_sees_the_same_model_in_every_build(served_compact: Any, one_process: Launcher) -> None:
    def seen(url: str) -> tuple[Any, ...]:
        with triton.InferenceServerClient(url) as wire:
            metadata = wire.get_model_metadata(ENSEMBLE)
        tensors = [[(t.name, t.datatype, tuple(t.shape)) for t in side] for side in (metadata.inputs, metadata.outputs)]
        return (metadata.platform, *tensors)

    assert seen(one_process.config.grpc_url) == seen(served_compact.config.grpc_url)


def test_hiera_tiny_at_512_px_is_the_network(tmp_path_factory: pytest.TempPathFactory) -> None:
    frames, audio = sample_frames(2, 512, 1), sample_audio(2, 1)
    inside = np.zeros((512, 512), np.bool_)
    inside[150:350, 100:300] = True
    marks = {
        "points": Prompts(points=[(200, 250, "+"), (400, 90, "-")], frame=1),
        "box": Prompts(box=(120, 130, 330, 350), frame=0),
        "points+box": Prompts(points=[(200, 250, "+")], box=(120, 130, 330, 350), frame=1),
        "mask": Prompts(mask=inside, frame=0),
    }
    build = copy_to_serve(built_once(TINY_IN_PYTORCH), tmp_path_factory.mktemp("tiny"))
    with serve_build(build, environ={}) as launcher, Client(launcher.config.grpc_url) as client:
        found = client.infer(frames, audio, outputs=RESULTS)
        marked = {name: client.segment(frames, None, prompts=each, use_audio=False) for name, each in marks.items()}
        with_sound = client.segment(frames, audio, prompts=marks["points"])
        with client.session(frames, audio) as session:
            by_sound, in_session = session.segment(), session.segment(marks["points"])
    network = load_aural_sam2(TINY)
    for name, answer in marked.items():
        assert answer.mode == name
        assert agreement(answer.mask_logits, masks_of(network, frames, marks[name])) >= AGREEMENT, name
    assert by_sound.mask_logits.tobytes() == found["MASK_LOGITS"].tobytes()
    assert in_session.mask_logits.tobytes() == with_sound.mask_logits.tobytes()
    wanted = network_answer(network, frames, audio)
    masks = wanted.select(TINY.read_out).numpy()
    assert 0.01 < (masks > 0).mean() < 0.99, "an empty or a full mask would agree by itself"
    assert agreement(found["MASK_LOGITS"], masks) >= AGREEMENT
    assert agreement(found["CANDIDATE_LOGITS"], wanted.low_res_logits.numpy()) >= AGREEMENT


def test_callers_at_once_get_their_own_answers(client: Client, one_process: Launcher) -> None:
    """Two clips are in flight at once, in three threads: none may get another's, and a refused one may come again."""
    clips = [(sample_frames(5, 256, seed), sample_audio(5, seed)) for seed in range(3)]
    wanted = [client.infer(*clip)["MASK_LOGITS"].tobytes() for clip in clips]
    assert len(set(wanted)) == 3

    def ask(number: int) -> bool:
        with Client(one_process.config.grpc_url, retries=10) as own:
            return own.infer(*clips[number % 3])["MASK_LOGITS"].tobytes() == wanted[number % 3]

    with ThreadPoolExecutor(6) as people:
        assert all(people.map(ask, range(18)))


BAD: dict[str, tuple[Callable[[], dict[str, NDArray[Any]]], str]] = {
    "NaN": (lambda: {"AUDIO": np.full((5, 15600, 2), np.nan, np.float32)}, "AUDIO: nan"),
    "sound in another scale": (lambda: {"AUDIO": np.full((5, 15600, 2), 32767, np.float32)}, "must lie in [-1, 1]"),
    "a point outside": (lambda: {"POINT_COORDS": GOOD["POINT_COORDS"] + 1000}, "POINT_COORDS"),
    "both forms of the frames": (lambda: {"FRAMES_ENCODED": np.array([b""] * 5, np.object_)}, "both came"),
    "nothing to go by": (lambda: {"USE_AUDIO": np.array([False])}, "USE_AUDIO"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_clip_is_refused_by_itself(case: str, one_process: Launcher, client: Client) -> None:
    change, said = BAD[case]
    tensors: dict[str, NDArray[Any]] = {
        "FRAMES": np.zeros((5, 256, 256, 3), np.uint8),
        "AUDIO": np.zeros((5, 15600, 2), np.float32),
    }
    if case == "a point outside":
        tensors |= GOOD
    with pytest.raises(triton.InferenceServerException) as refusal:
        raw(one_process.config, ENSEMBLE, tensors | change())
    reason, words = read_error(refusal.value.message())
    assert (reason, refusal.value.status()) == (Reason.BAD_REQUEST, "StatusCode.INVALID_ARGUMENT")
    assert said in words
    assert client.infer(tensors["FRAMES"], tensors["AUDIO"])["MASK_LOGITS"].shape == (5, 64, 64)


def test_host_memory_of_the_wrong_size_is_refused_before_the_stage(one_process: Launcher) -> None:
    tensors: dict[str, NDArray[Any]] = {
        "FRAMES": np.zeros((5, 128, 128, 3), np.uint8),
        "AUDIO": np.zeros((5, 15600, 2), np.float32),
    }
    with pytest.raises(triton.InferenceServerException, match=r"unexpected shape|\[5,256,256,3\]") as refusal:
        raw(one_process.config, ENSEMBLE, tensors)
    assert refusal.value.status() == "StatusCode.INVALID_ARGUMENT"


def test_stages_frames_and_sessions_are_counted(
    client: Client, one_process: Launcher, media: Media, heard: NDArray[np.float32]
) -> None:
    url = one_process.config.metrics_url

    def read(name: str) -> float:
        return total(read_page(url), name)

    settled_counters(url)
    before = {name: read(name) for name in ("auralsam2_frames_total", "auralsam2_clips_total")}
    client.segment(media.frames, heard)
    settled_counters(url)
    assert read("auralsam2_frames_total") - before["auralsam2_frames_total"] == 5
    assert read("auralsam2_clips_total") - before["auralsam2_clips_total"] == 1
    page = read_page(url)
    for stage in STAGE_NAMES:
        counted = [line for line in page.splitlines() if line.startswith("auralsam2_stage_duration_seconds_count")]
        assert any(f'stage="{stage}"' in line for line in counted), stage
    with client.session(media.frames, heard) as session:
        session.segment()
        eventually(lambda: read("auralsam2_session_bytes") > 1_000_000)
    eventually(lambda: read("auralsam2_session_bytes") == 0)
    assert in_flight(fetch(url)) == 0
    assert read("auralsam2_clips_in_flight") == 0


def test_sessions_are_bounded(client: Client, media: Media, heard: NDArray[np.float32]) -> None:
    sessions = [client.session(media.frames, heard) for _ in range(3)]
    try:
        for session in sessions[:2]:
            session.segment()
        with pytest.raises(ServerUnavailable) as refusal:
            sessions[2].segment()
        assert refusal.value.code == Reason.SESSION_LIMIT
        with pytest.raises(BadInput):
            sessions[0].click(1e6, 1e6)
        sessions[0].close()
        assert sessions[2].segment().mode == "audio"
    finally:
        for session in sessions:
            session.close()
