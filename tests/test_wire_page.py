"""The page on the wire says what the contract says, and its example runs."""

import math
import re
from typing import Any

import numpy as np

from auralsam2.data.world.showpiece import showpiece
from auralsam2_client.calls.client import Client
from auralsam2_client.calls.frame_wire import WIRES
from auralsam2_client.contract import ANSWERS, CLIP, DTYPES, STATUS, Sizes, tensor
from auralsam2_client.masks import to_rle
from tests.conftest import REPOSITORY
from tests.pages import blocks, table_rows

PAGE = (REPOSITORY / "docs" / "wire.md").read_text()
ROWS = table_rows(PAGE)
SIZES = Sizes(num_frames=5, image_size=256, channels=256, num_classes=6)


def test_tensors_have_the_type_and_shape_of_the_contract() -> None:
    shown = {cells[0].split("`")[1]: cells[1] for heads, cells in ROWS if heads[0] == "tensor"}
    assert len(shown) == 23
    for name, words in shown.items():
        dtype, shape = re.fullmatch(r"(\w+) \[(.*)\]", words).groups()  # type: ignore[union-attr]
        sizes = {"K": 6, "T": 5, "S": 256, "S/4": 64, "S/32": 8}
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


def test_bytes_of_an_answer_in_each_form() -> None:
    shown = {
        cells[0]: [int(cell.replace(",", "")) for cell in cells[1:]] for heads, cells in ROWS if heads[0] == "what"
    }
    of_outputs = {f"`{form}`": [output] for form, output in ANSWERS.items() if form != "rle"}
    of_outputs["both logits, without `ANSWER`"] = ["MASK_LOGITS", "CANDIDATE_LOGITS"]
    of_outputs["`FRAMES` and `AUDIO` sent"] = list(CLIP)
    rle = sum(len(to_rle(mask)["counts"]) for mask in showpiece().truth)
    wanted = {
        what: [sum(num_bytes(name, side) for name in names) for side in (256, 512, 1024)]
        for what, names in of_outputs.items()
    }
    assert shown == wanted | {"`rle`, the demo's true masks at 512 x 512": [rle] * 3}


def num_bytes(name: str, image_size: int) -> int:
    spec = tensor(name, Sizes(5, image_size, 0))
    return math.prod(spec.shape) * np.dtype(DTYPES[spec.dtype]).itemsize
