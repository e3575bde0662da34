"""What a caller says of the answer's form is read, and refused where it makes no sense."""

from typing import Any

import numpy as np
import pytest

from auralsam2_client.contract import ANSWERS, MAX_OUTPUT_SIDE
from model_repository.stage_runtime.engine.refusals import BadRequest
from model_repository.stage_runtime.forms.wish import Wish, read_wish


def said(answer: int | None = None, *size: int) -> dict[str, Any]:
    tensors = {} if answer is None else {"ANSWER": np.array([answer], np.int32)}
    return tensors | ({"OUTPUT_SIZE": np.array(size, np.int32)} if size else {})


def test_each_form_and_none() -> None:
    assert read_wish(said()) == Wish()
    assert [read_wish(said(index)).form for index in range(3)] == list(ANSWERS)[:3]
    assert read_wish(said(3, MAX_OUTPUT_SIDE, 1)) == Wish("rle", MAX_OUTPUT_SIDE, 1)
    assert read_wish(said(2, 5, 5)) == Wish("bits"), "a size is of no use to bits"


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        (said(4), r"ANSWER is 4; must be 0 \(logits\), 1 \(float16\), 2 \(bits\), 3 \(rle\)"),
        (said(-1), "ANSWER is -1"),
        (said(3), "without OUTPUT_SIZE. Send the height"),
        (said(3, 0, 7), r"OUTPUT_SIZE is \[0, 7\]; height and width must be 1 to 8192"),
        (said(3, 7, 8193), r"\[7, 8193\]"),
        (said(None, -1, 7), r"\[-1, 7\]"),
    ],
)
def test_what_is_refused(tensors: dict[str, Any], words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        read_wish(tensors)
