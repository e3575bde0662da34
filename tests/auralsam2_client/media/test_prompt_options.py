"""Prompts from a command line: points, a box and a picture of a mask."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from auralsam2_client.errors import BadInput
from auralsam2_client.media.prompt_options import read_prompts


def test_options_of_the_command_line(tmp_path: Path) -> None:
    mask = tmp_path / "mask.png"
    Image.fromarray(np.eye(4, dtype=np.uint8) * 255).save(mask)
    found = read_prompts(" 120,200,+; 30.5,40,- ;1,2,0", "1,2,3.5,4", mask, 3)
    assert found is not None
    assert list(found.points) == [(120, 200, "+"), (30.5, 40, "-"), (1, 2, 0)]
    assert (found.box, found.frame) == ((1, 2, 3.5, 4), 3)
    assert found.mask is not None
    np.testing.assert_array_equal(found.mask, np.eye(4, dtype=bool))
    assert read_prompts(None, None, None, None) is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("120,200", None, None, None), "--points: '120,200'; must be x,y,"),
        (("a,b,+", None, None, None), "--points"),
        ((None, "1,2,3", None, None), "--box: '1,2,3'; must be x0,y0,x1,y1"),
        ((None, None, Path("none.png"), None), "--mask: none.png cannot be read"),
        ((None, None, None, 2), "--frame 2 names the frame of prompts, but there are none"),
    ],
)
def test_bad_options_are_named(options: Any, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        read_prompts(*options)


def test_a_mask_of_a_palette_is_read_by_its_index(tmp_path: Path) -> None:
    labels = np.zeros((8, 8), np.uint8)
    labels[2:5, 3:7] = 1
    image = Image.frombytes("P", (8, 8), labels.tobytes())
    image.putpalette([0, 0, 0, 128, 0, 0])
    image.save(tmp_path / "mask.png")
    found = read_prompts(None, None, tmp_path / "mask.png", None)
    assert found is not None
    np.testing.assert_array_equal(found.mask, labels > 0)
