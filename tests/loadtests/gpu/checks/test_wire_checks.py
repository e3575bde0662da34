"""The checks of the wire fail where a card would be wrong; a decoder on the CPU stands in for it."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from loadtests.gpu.checks.check import Check, LeftOutError, Place
from loadtests.gpu.checks.wire_checks import compare, wire_checks

CPU = torch.device("cpu")


def decode(files: Sequence[bytes]) -> list[torch.Tensor]:
    pictures = [np.array(Image.open(io.BytesIO(file))) for file in files]
    return [torch.from_numpy(picture).permute(2, 0, 1) for picture in pictures]


def test_a_decoder_within_rounding_passes_and_one_beyond_does_not() -> None:
    compare(decode, CPU, 64)
    compare(lambda files: [value.clamp(4) for value in decode(files)], CPU, 64)
    with pytest.raises(AssertionError, match="levels apart"):
        compare(lambda files: [value.flip(0) for value in decode(files)], CPU, 64)
    with pytest.raises(AssertionError, match="left to the CPU"):
        compare(lambda files: [], CPU, 64)


@pytest.mark.parametrize("check", wire_checks(), ids=lambda check: check.name)
def test_without_a_card_they_are_left_out(check: Check, tmp_path: Path) -> None:
    with pytest.raises(LeftOutError, match="no memory of a card"):
        check.run(Place("cpu", tmp_path))
