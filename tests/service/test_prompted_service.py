"""Prompts on the real server: the chain answers them as the network does, and refuses bad ones."""

from typing import Any

import numpy as np
import pytest
import torch
import tritonclient.grpc as triton
from numpy.typing import NDArray

from auralsam2.network import mask_decoder
from auralsam2.network.tracker import ImageFeatures
from auralsam2.prompted.prompted_tracker import track_prompts
from auralsam2.prompted.prompts import FramePrompt
from auralsam2.stages.image_stages import HieraStage
from auralsam2_client.calls.client import Client
from auralsam2_client.contract import PROCEDURAL_WORLD, RESULTS, Reason, point_tensors, prompt_tensors, read_error
from auralsam2_client.media.reader import Media
from auralsam2_client.media.stills.frames import resize_frames
from auralsam2_client.prompts import Prompts, frame_prompt, setting_tensors
from service.monitoring.metrics import fetch
from service.server.config import ServerConfig
from tests.service.marks import CLIP, FRAME, GOOD, LOUD, SILENT, box_of, jaccard, middle_of, raw, same


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
    assert by_sound.build is not None
    assert by_sound.build["trained_on"] == PROCEDURAL_WORLD
    assert by_sound.build["precision"] in ("float32", "bfloat16")
    assert by_sound.build["build"].startswith("compact-256-t5")
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


def placed(*points: tuple[float, float, int]) -> dict[str, NDArray[Any]]:
    coords = np.array([point[:2] for point in points], np.float32).reshape(-1, 2)
    return point_tensors(coords, np.array([label for *_, label in points], np.int32))


BAD_PROMPTS: dict[str, tuple[dict[str, NDArray[Any]], str]] = {
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
    once = {"END": np.array([True])} if model == "auralsam2_session" else {}
    before = settled_hiera(served_compact.config)
    with pytest.raises(triton.InferenceServerException) as refusal:
        raw(served_compact.config, model, CLIP | tensors | once)
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
