"""The page on the wire says what the contract says."""

import re

from auralsam2_client.contract import STATUS, Sizes, tensor
from tests.conftest import REPOSITORY
from tests.pages import table_rows

ROWS = table_rows((REPOSITORY / "docs" / "wire.md").read_text())
SIZES = Sizes(num_frames=5, image_size=256, channels=256)


def test_tensors_have_the_type_and_shape_of_the_contract() -> None:
    shown = {cells[0].split("`")[1]: cells[1] for heads, cells in ROWS if heads[0] == "tensor"}
    assert len(shown) == 13
    for name, words in shown.items():
        dtype, shape = re.fullmatch(r"(\w+) \[(.*)\]", words).groups()  # type: ignore[union-attr]
        sizes = {"T": 5, "S": 256, "S/4": 64}
        found = tuple(sizes[part] if part in sizes else int(part) for part in shape.split(", "))
        assert (tensor(name, SIZES).dtype, tensor(name, SIZES).shape) == (dtype, found), name


def test_reason_codes_and_their_status() -> None:
    shown = {cells[0].strip("`"): cells[1].strip("`") for heads, cells in ROWS if heads[0] == "code"}
    assert shown == {str(reason): status for reason, status in STATUS.items()}
