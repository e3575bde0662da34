"""Upsampling against torch, RLE and the files of a result."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from auralsam2_client.errors import BadInput
from auralsam2_client.masks import FrameResult, from_rle, to_masks, to_rle, upsample, write_results


def logits_of(*shape: int) -> np.ndarray:
    return (3 * np.random.default_rng(0).standard_normal(shape)).astype(np.float32)


@pytest.mark.parametrize(
    ("small", "large"),
    [((64, 64), (224, 224)), ((256, 256), (720, 1280)), ((64, 48), (37, 211)), ((90, 160), (45, 80)), ((1, 7), (5, 1))],
)
def test_upsampling_is_that_of_torch_up_and_down(small, large):
    torch = pytest.importorskip("torch", reason="the reference is torch's interpolate")
    for source, target in [(small, large), (large, small)]:
        logits = logits_of(2, 1, *source)
        expected = torch.nn.functional.interpolate(
            torch.from_numpy(logits), target, mode="bilinear", align_corners=False
        )
        found = upsample(logits, *target)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


def test_same_size_changes_nothing():
    logits = logits_of(3, 17, 9)
    np.testing.assert_array_equal(upsample(logits, 17, 9), logits)


def test_masks_with_and_without_a_size():
    logits = logits_of(2, 3, 16, 16)
    np.testing.assert_array_equal(to_masks(logits), logits > 0)
    np.testing.assert_array_equal(to_masks(logits, (45, 80)), upsample(logits, 45, 80) > 0)
    assert to_masks(logits, (45, 80)).dtype == np.bool_


def test_sizes_out_of_range():
    with pytest.raises(BadInput, match=r"\[4\] to 8 x 8"):
        upsample(np.zeros(4, np.float32), 8, 8)
    with pytest.raises(BadInput, match="to 0 x 8"):
        to_masks(np.zeros((4, 4), np.float32), (0, 8))


@pytest.mark.parametrize("height", [255, 256, 257, 700])
def test_masks_are_cut_in_bands_as_in_one(height):
    logits = logits_of(2, 9, 5)
    np.testing.assert_array_equal(to_masks(logits, (height, 31)), upsample(logits, height, 31) > 0)


@given(hnp.arrays(np.bool_, st.tuples(st.integers(1, 40), st.integers(1, 40))))
def test_rle_survives_json(mask):
    rle = json.loads(json.dumps(to_rle(mask)))
    assert rle["size"] == list(mask.shape)
    np.testing.assert_array_equal(from_rle(rle), mask)


def result(mask: np.ndarray, **changes: object) -> FrameResult:
    fields = {
        "time_s": 0.0,
        "iou": np.array([0.1, 0.9, 0.5], np.float32),
        "best_candidate": 1,
        "object_score": 2.5,
        **changes,
    }
    return FrameResult(mask=mask, **fields)


def test_result_files_hold_what_was_found(tmp_path):
    masks = [np.zeros((6, 8), bool), np.eye(6, 8, dtype=bool)]
    frames = [result(mask, time_s=float(index)) for index, mask in enumerate(masks)]
    precision = {"hiera": "bfloat16", "decoder": "float32"}
    path = write_results(tmp_path / "a" / "b", frames, source="clip.mp4", fps=1.0, model="compact", precision=precision)
    read = json.loads(path.read_text())
    assert {key: read[key] for key in ("source", "fps", "model", "precision", "image_size")} == {
        "source": "clip.mp4",
        "fps": 1.0,
        "model": "compact",
        "precision": precision,
        "image_size": {"height": 6, "width": 8},
    }
    second = read["frames"][1]
    assert second.keys() == {"index", "time_s", "rle", "area_px", "iou", "best_candidate", "object_score", "mode"}
    assert (second["index"], second["time_s"], second["area_px"], second["best_candidate"]) == (1, 1.0, 6, 1)
    assert second["iou"] == pytest.approx([0.1, 0.9, 0.5])
    np.testing.assert_array_equal(from_rle(second["rle"]), masks[1])
    with Image.open(path.with_name("mask_00001.png")) as image:
        assert image.mode == "L"
        np.testing.assert_array_equal(np.asarray(image), masks[1] * 255)
    assert sorted(p.name for p in path.parent.iterdir()) == ["mask_00000.png", "mask_00001.png", "result.json"]


def test_results_that_cannot_be_written(tmp_path):
    about = {"source": "s", "fps": 1.0, "model": "m", "precision": {}}
    with pytest.raises(BadInput, match="0 frames"):
        write_results(tmp_path, [], **about)
    with pytest.raises(BadInput, match=r"Mask 1 is \[2, 2\], mask 0 is \[3, 2\]"):
        write_results(tmp_path, [result(np.zeros((3, 2), bool)), result(np.zeros((2, 2), bool))], **about)
    with pytest.raises(BadInput, match="object_score nan"):
        write_results(tmp_path, [result(np.zeros((3, 2), bool), object_score=float("nan"))], **about)
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match=r"cannot be made a folder.*--out"):
        write_results(tmp_path / "file", [result(np.zeros((3, 2), bool))], **about)
