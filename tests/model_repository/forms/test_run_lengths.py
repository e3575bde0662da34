"""Run lengths as the server writes them are those of pycocotools on the mask that the client makes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from pycocotools import mask as coco

from auralsam2_client.masks import to_rle, upsample
from model_repository.stage_runtime.forms import run_lengths
from model_repository.stage_runtime.forms.run_lengths import compress, encode_map

LOGITS = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    elements=st.floats(-4, 4, width=16),
)


def by_pycocotools(logits: NDArray[np.float32], height: int, width: int) -> bytes:
    return to_rle(upsample(logits, height, width) > 0)["counts"].encode()


@given(LOGITS, st.integers(1, 40), st.integers(1, 40))
def test_any_map_at_any_size(logits: NDArray[np.float32], height: int, width: int) -> None:
    assert encode_map(logits, height, width) == by_pycocotools(logits, height, width)


@pytest.mark.parametrize(("height", "width"), [(1080, 1920), (37, 8192), (8192, 3)])
def test_a_map_at_the_size_of_a_video_in_several_bands(height: int, width: int) -> None:
    rows, columns = np.ogrid[:64, :64]
    logits = (20 - np.hypot(rows - 30, columns - 40)).astype(np.float32)
    logits[:4, ::3] = 1
    assert encode_map(logits, height, width) == by_pycocotools(logits, height, width)


@pytest.mark.parametrize("sign", [-1, 1])
def test_one_run_over_all_bands(sign: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_lengths, "_BAND_PIXELS", 50)
    logits = np.full((4, 4), sign, np.float32)
    assert encode_map(logits, 20, 30) == by_pycocotools(logits, 20, 30)
    logits[:, 2:] = -sign
    assert encode_map(logits, 20, 30) == by_pycocotools(logits, 20, 30)


@given(st.lists(st.integers(1, 8192 * 8192), min_size=1, max_size=30), st.booleans())
def test_counts_of_any_length(counts: list[int], starts_inside: bool) -> None:
    """Through the other door of pycocotools, which takes counts as they are."""
    runs = [0, *counts] if starts_inside else counts
    if sum(runs) < 2**31:
        found = coco.frPyObjects({"size": [1, sum(runs)], "counts": runs}, 1, sum(runs))["counts"]
        assert compress(np.array(runs)) == found
