"""The page on the wire says what the contract says, and its example runs."""

import re
from typing import Any

import numpy as np

from auralsam2_client.calls.client import Client
from auralsam2_client.calls.frame_wire import WIRES
from auralsam2_client.contract import STATUS, Sizes, tensor
from tests.conftest import REPOSITORY
from tests.pages import blocks, table_rows

PAGE = (REPOSITORY / "docs" / "wire.md").read_text()
ROWS = table_rows(PAGE)
SIZES = Sizes(num_frames=5, image_size=256, channels=256)


def test_tensors_have_the_type_and_shape_of_the_contract() -> None:
    shown = {cells[0].split("`")[1]: cells[1] for heads, cells in ROWS if heads[0] == "tensor"}
    assert len(shown) == 14
    for name, words in shown.items():
        dtype, shape = re.fullmatch(r"(\w+) \[(.*)\]", words).groups()  # type: ignore[union-attr]
        sizes = {"T": 5, "S": 256, "S/4": 64}
        found = tuple(sizes[part] if part in sizes else int(part) for part in shape.split(", "))
        assert (tensor(name, SIZES).dtype, tensor(name, SIZES).shape) == (dtype, found), name


def test_reason_codes_and_their_status() -> None:
    shown = {cells[0].strip("`"): cells[1].strip("`") for heads, cells in ROWS if heads[0] == "code"}
    assert shown == {str(reason): status for reason, status in STATUS.items()}


def test_the_forms_of_frames_are_the_clients() -> None:
    shown = [cells[0].split("`")[1] for heads, cells in ROWS if heads[0] == "wire"]
    assert sorted(shown) == sorted(WIRES)


def test_the_example_of_frames_as_files_runs_as_it_stands(served_compact: Any) -> None:
    """With Triton's own client alone; only the port differs."""
    (code,) = [code for language, code in blocks(PAGE) if language == "python"]
    found: dict[str, Any] = {}
    url = served_compact.config.grpc_url
    exec(code.replace("127.0.0.1:8001", url), found)
    with Client(url) as client:
        seen = np.stack([np.asarray(found["Image"].open(found["io"].BytesIO(file))) for file in found["files"]])
        wanted = client.infer(seen, found["sound"])
    assert found["answer"].as_numpy("MASK_LOGITS").tobytes() == wanted["MASK_LOGITS"].tobytes()
    assert found["masks"].shape == (5, 64, 64)
