"""Each protocol against the released scripts, line by line, and what is refused."""

from dataclasses import replace

import pytest

from auralsam2.errors import DataError
from auralsam2.evaluation.protocol import RELEASED_AVSBENCH, Protocol, protocol_of

RELEASED = {
    "name": "released",
    "precision": "bfloat16",
    "compared_at": "network",
    "jaccard_over": "batches",
    "without_object": "zero",
    "null_metric": "share",
    "headline": "iou",
    "absent_logit": 0.0,
    "resampler": "resampy",
}
PROJECT = {
    "name": "project",
    "precision": "float32",
    "compared_at": "labels",
    "jaccard_over": "frames",
    "without_object": "left_out",
    "null_metric": "root",
    "headline": "iou_occlusion",
    "absent_logit": -1024.0,
    "resampler": "soxr",
    "clips_per_batch": 1,
    "pooled_v2": False,
    "least_examples": None,
}
AVSBENCH = {"clips_per_batch": 1, "pooled_v2": True, "least_examples": None, "conditioning": "first"}
REF_AVS = {"clips_per_batch": 4, "pooled_v2": False, "least_examples": 5, "conditioning": "middle"}


@pytest.mark.parametrize(
    ("name", "layout", "wanted"),
    [
        ("released", None, RELEASED | AVSBENCH),
        ("released", "avsbench", RELEASED | AVSBENCH),
        ("released", "ref-avs", RELEASED | REF_AVS),
        ("project", None, PROJECT | {"conditioning": "first"}),
        ("project", "avsbench", PROJECT | {"conditioning": "first"}),
        ("project", "ref-avs", PROJECT | {"conditioning": "middle"}),
    ],
)
def test_every_choice_of_every_protocol(name: str, layout: str | None, wanted: dict[str, object]) -> None:
    assert protocol_of(name, layout).as_json() == wanted


def test_released_is_the_default() -> None:
    assert protocol_of() is RELEASED_AVSBENCH


def test_the_conditioning_frame_is_the_first_for_avsbench_and_the_middle_for_ref_avs() -> None:
    for name in ("released", "project"):
        assert protocol_of(name, "avsbench").conditioning_frame == 0
        assert protocol_of(name, "ref-avs").conditioning_frame is None  # the predictor's word for T // 2


def test_another_precision_leaves_the_rest() -> None:
    assert protocol_of("released", None, "float32") == replace(RELEASED_AVSBENCH, precision="float32")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("paper", None, None), "protocol 'paper' is unknown; choose one of released, project"),
        (("released", "coco", None), "layout 'coco' is unknown; choose one of avsbench, ref-avs"),
        (("project", None, "float16"), "precision 'float16' is unknown; choose one of bfloat16, float32"),
    ],
)
def test_what_is_unknown_is_named(arguments: tuple[str, str | None, str | None], words: str) -> None:
    with pytest.raises(DataError, match=words):
        protocol_of(*arguments)


def test_a_batch_holds_a_clip() -> None:
    with pytest.raises(DataError, match="clips_per_batch = 0; at least one"):
        Protocol(**protocol_of().as_json() | {"clips_per_batch": 0})
