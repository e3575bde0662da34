"""Prompts and sessions on the real server: the chain answers them as the network does, and refuses bad ones."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import tritonclient.grpc as triton
from numpy.typing import NDArray

from auralsam2 import mask_decoder
from auralsam2.data.world.showpiece import showpiece
from auralsam2.prompted_tracker import track_prompts
from auralsam2.prompts import FramePrompt
from auralsam2.tracker import ImageFeatures
from auralsam2_client.calls.async_client import AsyncClient
from auralsam2_client.calls.client import Client
from auralsam2_client.calls.segmentation import Segmentation
from auralsam2_client.calls.wire import translate
from auralsam2_client.contract import RESULTS, Reason, point_tensors, prompt_tensors, read_error
from auralsam2_client.errors import BadInput, ServerTimeout, ServerUnavailable, SessionEnded
from auralsam2_client.media.frames import resize_frames
from auralsam2_client.media.reader import Media, read_media
from auralsam2_client.media.sound import windows
from auralsam2_client.prompts import Prompts, frame_prompt, setting_tensors
from export.graphs.stages import HieraStage
from service.monitoring.metrics import fetch, in_flight
from service.server.config import ServerConfig
from service.server.serving import serve_build
from tests.service.toy.running import eventually, settled_counters

# The triangle sounds at second 1; the disc, which does so at second 0, is silent then.
FRAME = 1
LOUD, SILENT = 1, 0


@pytest.fixture(scope="module")
def media(demo_clip: Path) -> Media:
    return read_media(str(demo_clip))


@pytest.fixture(scope="module")
def heard(media: Media) -> NDArray[np.float32]:
    return windows(media.sound, len(media.frames)).samples


@pytest.fixture(scope="module")
def truth() -> NDArray[np.bool_]:
    return np.asarray(showpiece().truth)


@pytest.fixture
def client(served_compact: Any) -> Iterator[Client]:
    with Client(served_compact.config.grpc_url) as client:
        yield client


def box_of(mask: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    rows, columns = np.nonzero(mask)
    return float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1)


def middle_of(mask: NDArray[np.bool_]) -> tuple[float, float]:
    rows, columns = np.nonzero(mask)
    return float(columns.mean()), float(rows.mean())


def jaccard(found: NDArray[np.bool_], wanted: NDArray[np.bool_]) -> float:
    return float((found & wanted).sum() / max(1, (found | wanted).sum()))


def same(found: Segmentation, wanted: Segmentation) -> bool:
    return found.mask_logits.tobytes() == wanted.mask_logits.tobytes() and found.iou.tobytes() == wanted.iou.tobytes()


def test_prompts_alone_over_grpc_are_the_networks(served_compact: Any, client: Client, media: Media) -> None:
    frames = resize_frames(media.frames, 256)
    prompts = Prompts(points=[(60, 60, "+"), (200, 30, "-")], box=(20, 20, 110, 120), frame=3)
    tensors = prompt_tensors(frame_prompt(prompts, 5, 256, 256, 256)) | setting_tensors(False, "mean")
    found = client.infer(
        frames, np.zeros((5, 15600, 2), np.float32), prompts=tensors, outputs=(*RESULTS, "PROMPT_MODE")
    )
    model = served_compact.network
    with torch.no_grad():
        s4, s8, _, _, embedding = HieraStage(model)(torch.from_numpy(frames))
        wanted = track_prompts(
            model.v_model,
            ImageFeatures(s4, s8, embedding),
            [FramePrompt(3, torch.from_numpy(tensors["POINT_COORDS"][:4]), torch.tensor([2, 3, 1, 0]))],
            model.positions(),
            mask_decoder.dense_positions(model.v_model),
        )
    assert bytes(found["PROMPT_MODE"][0]) == b"points+box"
    masks = wanted.masks.numpy()
    assert 0.001 < (masks > 0).mean() < 0.9, "an empty or a full mask would agree by itself"
    assert ((found["MASK_LOGITS"] > 0) == (masks > 0)).mean() >= 0.999
    assert ((found["CANDIDATE_LOGITS"] > 0) == (wanted.low_res_logits.numpy() > 0)).mean() >= 0.999
    np.testing.assert_allclose(found["IOU"], wanted.iou.numpy(), atol=1e-2)


def test_every_mode_is_named_and_sound_alone_is_unchanged(
    client: Client, media: Media, heard: NDArray[np.float32], truth: NDArray[np.bool_]
) -> None:
    x, y = middle_of(truth[LOUD])
    box = box_of(truth[LOUD])
    point = [(x, y, "+")]
    by_sound = client.segment(media.frames, heard)
    assert by_sound.mode == "audio"
    wanted = {
        "points": Prompts(points=point, frame=FRAME),
        "box": Prompts(box=box, frame=FRAME),
        "points+box": Prompts(points=point, box=box, frame=FRAME),
        "mask": Prompts(mask=truth[LOUD], frame=FRAME),
    }
    for mode, prompts in wanted.items():
        alone = client.segment(media.frames, None, prompts=prompts, use_audio=False)
        both = client.segment(media.frames, heard, prompts=prompts)
        assert (alone.mode, both.mode) == (mode, f"audio+{mode}")
        assert alone.iou.shape == (5, 3)
        assert not same(both, by_sound)
    # A mask stands for itself on its frame.
    assert jaccard(alone.masks()[FRAME], truth[LOUD]) > 0.9
    # As the same clip's, whatever came between.
    again = client.infer(resize_frames(media.frames, 256), heard, outputs=("MASK_LOGITS",))
    assert again["MASK_LOGITS"].tobytes() == by_sound.mask_logits.tobytes()


def test_the_rules_of_combination_differ(
    client: Client, media: Media, heard: NDArray[np.float32], truth: NDArray[np.bool_]
) -> None:
    prompts = Prompts(mask=truth[SILENT], frame=FRAME)
    mean, best, union = (
        client.segment(media.frames, heard, prompts=prompts, combination=rule) for rule in ("mean", "best_iou", "union")
    )
    sound = client.segment(media.frames, heard).masks()
    assert (union.masks()[FRAME] >= sound[FRAME]).all()
    assert union.masks()[FRAME].sum() > sound[FRAME].sum()
    assert not same(mean, union)
    assert not same(best, union)


def test_a_session_answers_as_clips_sent_whole_and_encodes_once(
    served_compact: Any, client: Client, media: Media, heard: NDArray[np.float32], truth: NDArray[np.bool_]
) -> None:
    box, (x, y) = box_of(truth[LOUD]), middle_of(truth[LOUD])
    before = settled_counters(served_compact.config.metrics_url)
    with client.session(media.frames, heard) as session:
        first = session.segment()
        second = session.segment(Prompts(box=box, frame=FRAME))
        third = session.click(x, y, frame=FRAME)
        fourth = session.segment(combination="union")
    after = settled_counters(served_compact.config.metrics_url)
    for stage in ("vggish", "hiera", "aural_fuser", "sam2_decoder"):
        assert after[stage].success == before[stage].success + 1
    assert after["auralsam2_session"].success == before["auralsam2_session"].success + 5
    assert in_flight(after) == 0
    assert [each.mode for each in (first, second, third)] == ["audio", "audio+box", "audio+points+box"]
    assert same(first, client.segment(media.frames, heard))
    assert same(second, client.segment(media.frames, heard, prompts=Prompts(box=box, frame=FRAME)))
    assert not same(third, second)
    assert not same(fourth, third)
    with pytest.raises(SessionEnded):
        session.click(x, y)


def test_a_click_for_its_frame_alone_and_then_tracked_ends_where_a_tracked_click_does(
    client: Client, media: Media, heard: NDArray[np.float32], truth: NDArray[np.bool_]
) -> None:
    x, y = middle_of(truth[LOUD])
    with client.session(media.frames, heard) as session:
        by_sound = session.segment()
        quick = session.click(x, y, frame=FRAME, propagate=False)
        tracked = session.propagate()
    assert same(tracked, client.segment(media.frames, heard, prompts=Prompts(points=[(x, y, "+")], frame=FRAME)))
    assert quick.mode == tracked.mode == "audio+points"
    others = [frame for frame in range(len(media.frames)) if frame != FRAME]
    np.testing.assert_array_equal(quick.mask_logits[FRAME], tracked.mask_logits[FRAME])
    np.testing.assert_array_equal(quick.mask_logits[others], by_sound.mask_logits[others])
    assert not np.array_equal(tracked.mask_logits[others], by_sound.mask_logits[others])


def test_a_silent_object_is_marked_and_then_corrected(
    client: Client, media: Media, heard: NDArray[np.float32], truth: NDArray[np.bool_]
) -> None:
    """By masks, which stand for themselves, so that the test asks nothing of the weights."""
    with client.session(media.frames, heard, combination="union") as session:
        by_sound = session.segment().masks()[FRAME]
        conflicting = session.segment(Prompts(mask=truth[SILENT], frame=FRAME)).masks()[FRAME]
        corrected = session.segment(Prompts(mask=truth[LOUD], frame=FRAME)).masks()[FRAME]
        clicked = session.click(*middle_of(truth[SILENT]), "-", frame=FRAME)
    assert conflicting[truth[SILENT]].mean() > 0.9 > by_sound[truth[SILENT]].mean()
    assert corrected[truth[SILENT]].mean() < 0.1
    assert corrected[truth[LOUD]].mean() > 0.9
    assert clicked.mode == "audio+points", "a click after a mask goes on from what was made of it"


def test_sessions_at_once_do_not_mix(
    served_compact: Any, media: Media, heard: NDArray[np.float32], truth: NDArray[np.bool_]
) -> None:
    """Three people in turns on three clips, each answered as if alone."""
    clips = [np.roll(media.frames, 40 * number, axis=2) for number in range(3)]
    boxes = [box_of(np.roll(truth[LOUD], 40 * number, axis=1)) for number in range(3)]

    def rounds(number: int) -> list[Callable[[Any], Segmentation]]:
        prompts = Prompts(box=boxes[number], frame=FRAME)
        return [
            lambda session: session.segment(),
            lambda session: session.segment(prompts),
            lambda session: session.click(10 + 30 * number, 200, "-", frame=4),
        ]

    with Client(served_compact.config.grpc_url) as client:
        alone = []
        for number in range(3):
            with client.session(clips[number], heard) as session:
                alone.append([each(session) for each in rounds(number)])
        sessions = [client.session(clip, heard) for clip in clips]
        together: list[list[Segmentation]] = [[], [], []]

        def person(number: int) -> None:
            together[number] += [each(sessions[number]) for each in rounds(number)]

        people = [threading.Thread(target=person, args=(number,)) for number in range(3)]
        for each in people:
            each.start()
        for each in people:
            each.join(60)
        for session in sessions:
            session.close()
    for found, wanted in zip(together, alone, strict=True):
        assert [same(*pair) for pair in zip(found, wanted, strict=True)] == [True] * 3


def test_a_round_that_was_too_late_may_be_sent_again_and_counts_once(
    client: Client, media: Media, heard: NDArray[np.float32]
) -> None:
    def given_up(ask: Callable[..., Segmentation]) -> None:
        with pytest.raises(ServerTimeout):
            ask(timeout_s=0.03)

    with client.session(media.frames, heard) as usual, client.session(media.frames, heard) as hurried:
        usual.segment()
        usual.click(100, 100, frame=2)
        wanted = usual.click(300, 100, "-", frame=2)
        given_up(hurried.segment)
        hurried.segment()
        for x, label in ((100, "+"), (300, "-")):
            given_up(partial(hurried.click, x, 100, label, frame=2))
            found = hurried.click(x, 100, label, frame=2)
    assert same(found, wanted)


@pytest.mark.asyncio
async def test_a_session_in_asyncio(served_compact: Any, media: Media, heard: NDArray[np.float32]) -> None:
    async with AsyncClient(served_compact.config.grpc_url) as client:
        async with client.session(media.frames, heard) as one, client.session(media.frames, heard) as other:
            first, second = await asyncio.gather(one.segment(), other.segment())
            assert same(first, second)
            assert (await one.click(100, 100, frame=2)).mode == "audio+points"
            assert (await other.segment()).mode == "audio"
        with pytest.raises(SessionEnded):
            await one.click(1, 1)


def raw(config: ServerConfig, model: str, tensors: dict[str, NDArray[Any]], **sequence: Any) -> Any:
    """A request that our client would never send."""
    types = {"uint8": "UINT8", "float32": "FP32", "int32": "INT32", "bool": "BOOL"}
    inputs = [
        triton.InferInput(name, list(value.shape), types[value.dtype.name]).set_data_from_numpy(value)
        for name, value in tensors.items()
    ]
    with triton.InferenceServerClient(config.grpc_url) as wire:
        return wire.infer(model, inputs, client_timeout=60, **sequence)


CLIP = {"FRAMES": np.zeros((5, 256, 256, 3), np.uint8), "AUDIO": np.zeros((5, 15600, 2), np.float32)}
GOOD = prompt_tensors(frame_prompt(Prompts(points=[(5, 6, "+")], frame=0), 5, 256, 256, 256))


def placed(*points: tuple[float, float, int]) -> dict[str, NDArray[Any]]:
    coords = np.array([point[:2] for point in points], np.float32).reshape(-1, 2)
    return point_tensors(coords, np.array([label for *_, label in points], np.int32))


BAD_PROMPTS = {
    "outside": (placed((257, 5, 1)), "(257, 5)"),
    "label": (placed((5, 5, 7)), "POINT_LABELS is 7"),
    "empty box": (placed((5, 5, 2), (5, 9, 3)), "empty"),
    "turned box": (placed((9, 5, 2), (5, 9, 3)), "turned round"),
    "frame": (GOOD | {"PROMPT_FRAME": np.array([5], np.int32)}, "PROMPT_FRAME is 5"),
    "mask of another size": ({"MASK_INPUT": np.ones((63, 64), np.float32)}, "[64,64]"),
    "empty mask": ({"MASK_INPUT": np.zeros((64, 64), np.float32)}, "nowhere above 0"),
    "17 points": ({name: np.repeat(GOOD[name], 2, axis=0)[:17] for name in placed()}, "[16"),
    "rule": (GOOD | {"COMBINATION": np.array([3], np.int32)}, "COMBINATION is 3"),
    "nothing": ({"USE_AUDIO": np.array([False])}, "nothing says what to segment"),
}


@pytest.mark.parametrize("name", BAD_PROMPTS)
@pytest.mark.parametrize("model", ["auralsam2", "auralsam2_session"])
def test_bad_prompts_on_the_wire_are_refused_and_the_next_clip_answered(
    served_compact: Any, client: Client, name: str, model: str
) -> None:
    tensors, words = BAD_PROMPTS[name]
    whole = {"sequence_id": 77, "sequence_start": True, "sequence_end": True}
    sequence = whole if model == "auralsam2_session" else {}
    before = settled_hiera(served_compact.config)
    with pytest.raises(triton.InferenceServerException) as refusal:
        raw(served_compact.config, model, CLIP | tensors, **sequence)
    assert refusal.value.status() == "StatusCode.INVALID_ARGUMENT"
    assert words in refusal.value.message()
    # The server itself compares sizes with the configuration, before any stage.
    by_the_server = name in ("mask of another size", "17 points")
    assert read_error(refusal.value.message())[0] is (None if by_the_server else Reason.BAD_REQUEST)
    if name != "nothing":
        assert settled_hiera(served_compact.config) == before, "a bad prompt costs no image encoding"
    assert served_compact.launcher.fault() is None
    assert raw(served_compact.config, "auralsam2", CLIP | GOOD).as_numpy("IOU").shape == (5, 3)


def settled_hiera(config: ServerConfig) -> int:
    return fetch(config.metrics_url)["hiera"].success


def test_a_click_for_no_session_is_refused(served_compact: Any) -> None:
    unknown: dict[str, Any] = {"sequence_id": 4242}
    cases = [
        (unknown, SessionEnded, Reason.SESSION_ENDED),
        (unknown | {"sequence_end": True}, SessionEnded, Reason.SESSION_ENDED),
        ({}, BadInput, Reason.BAD_REQUEST),
    ]
    for sequence, kind, code in cases:
        with pytest.raises(triton.InferenceServerException) as refusal:
            raw(served_compact.config, "auralsam2_session", GOOD, **sequence)
        assert refusal.value.status() == "StatusCode.INVALID_ARGUMENT"
        found = translate(refusal.value, url="here", timeout_s=1)
        assert (type(found), found.code) == (kind, code)


def test_idle_sessions_end_caps_hold_and_one_left_open_does_not_hold_up_a_stop(
    compact_build: Path, media: Media, heard: NDArray[np.float32]
) -> None:
    with (
        serve_build(compact_build, environ={}, max_sessions=2, session_idle_timeout_s=1.5) as launcher,
        Client(launcher.config.grpc_url) as client,
    ):
        sessions = [client.session(media.frames, heard) for _ in range(3)]
        for session in sessions[:2]:
            session.segment()
        with pytest.raises(ServerUnavailable, match=r"at most 2 sessions") as refused:
            sessions[2].segment()
        assert refused.value.code is Reason.SESSION_LIMIT

        def opened() -> bool:
            try:
                return sessions[2].segment().mode == "audio"
            except ServerUnavailable:
                return False

        eventually(opened, within_s=10)
        with pytest.raises(SessionEnded, match=r"nobody used it for 1\.5 s"):
            sessions[0].click(5, 5)
        with pytest.raises(BadInput, match="lies outside the frame"):
            sessions[2].click(5, 5000)
        started = time.monotonic()
        launcher.stop()
        # Three sequences are open at the server, which by itself would wait for them as long as the launcher lets it.
        assert time.monotonic() - started < launcher.config.drain_timeout_s / 2
