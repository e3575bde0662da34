"""Small answers from the real server: each form says what the logits say, of clips and of sessions' rounds."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from auralsam2_client.calls.client import Client
from auralsam2_client.calls.segmentation import Segmentation
from auralsam2_client.calls.segmenting import segment_media
from auralsam2_client.contract import ANSWERS, RESULTS
from auralsam2_client.errors import BadInput
from auralsam2_client.media.reader import Media
from auralsam2_client.media.stills.frames import resize_frames
from auralsam2_client.prompts import Prompts
from tests.service.marks import CLIP, raw

CLICK = Prompts(points=[(100, 100, "+")], frame=2)


def check_forms(by_form: dict[str, Segmentation]) -> None:
    wanted = by_form["logits"]
    assert 0.001 < wanted.masks().mean() < 0.999, "an empty or a full mask would agree by itself"
    for form, found in by_form.items():
        np.testing.assert_array_equal(found.iou, wanted.iou)
        assert found.mode == wanted.mode
        if form != "rle":
            np.testing.assert_array_equal(found.mask_logits > 0, wanted.mask_logits > 0)
    np.testing.assert_allclose(by_form["float16"].mask_logits, wanted.mask_logits, rtol=1e-3, atol=1e-6)
    np.testing.assert_array_equal(by_form["rle"].masks(), wanted.masks())
    assert (by_form["bits"].masks() == wanted.masks()).mean() > 0.99


@pytest.mark.parametrize("prompts", [None, CLICK], ids=["sound", "click"])
def test_every_form_of_a_clip_says_the_same(
    client: Client, media: Media, heard: NDArray[np.float32], prompts: Prompts | None
) -> None:
    check_forms({form: client.segment(media.frames, heard, prompts=prompts, answer=form) for form in ANSWERS})


def test_a_video_has_the_same_masks_by_run_lengths(client: Client, media: Media) -> None:
    usual, rle = (segment_media(client, media, answer=form) for form in ("logits", "rle"))
    np.testing.assert_array_equal(rle.masks(), usual.masks())


def test_every_form_of_a_round_says_the_same(client: Client, media: Media, heard: NDArray[np.float32]) -> None:
    found = {}
    for form in ANSWERS:
        with client.session(media.frames, heard, answer=form) as session:
            session.segment()
            found[form] = session.segment(CLICK)
    check_forms(found)


def test_only_what_was_asked_for_comes(client: Client, media: Media, heard: NDArray[np.float32]) -> None:
    frames = resize_frames(media.frames, 256)
    whole = client.infer(frames, heard, outputs=RESULTS)
    for outputs in (["CANDIDATE_LOGITS"], ["MASK_LOGITS", "IOU"], ["IOU"], ["MASK_BITS"]):
        found = client.infer(frames, heard, outputs=outputs)
        assert list(found) == outputs
        for name in set(outputs) & set(whole):
            np.testing.assert_array_equal(found[name], whole[name])
    rle = {"OUTPUT_SIZE": np.array([50, 70], np.int32)}
    counts = client.infer(frames, heard, outputs=["MASK_RLE"], prompts=rle)["MASK_RLE"]
    assert (counts.shape, type(counts[0])) == ((5,), bytes)


def test_a_wish_that_makes_no_sense_is_refused_before_the_clip_costs_anything(
    served_compact: Any, client: Client, media: Media, heard: NDArray[np.float32]
) -> None:
    frames = resize_frames(media.frames, 256)
    with pytest.raises(BadInput, match=r"OUTPUT_SIZE is \[0, 70\]"):
        client.infer(frames, heard, outputs=["MASK_RLE"], prompts={"OUTPUT_SIZE": np.array([0, 70], np.int32)})
    with pytest.raises(Exception, match="ANSWER is 9"):
        raw(served_compact.config, "auralsam2", CLIP | {"ANSWER": np.array([9], np.int32)})
