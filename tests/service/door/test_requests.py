"""How large a message may be, from the build's own tensors."""

from pathlib import Path

from auralsam2_client.contract import WINDOW_SAMPLES
from service.door.requests import LOCAL_MEMORY_METHODS, METHODS, SLACK_BYTES, largest_message
from tests.service.toy import build_folder as toy


def test_a_message_is_a_clip_and_a_little(tmp_path: Path) -> None:
    models = toy.write(tmp_path / "build") / "models"
    raw = toy.T * toy.S**2 * 3 + toy.T * WINDOW_SAMPLES * 2 * 4
    assert largest_message(models) == raw + SLACK_BYTES


def test_frames_come_raw_or_as_files(tmp_path: Path) -> None:
    models = toy.write(tmp_path / "build") / "models"
    config = models / "auralsam2" / "config.pbtxt"
    config.write_text(
        config.read_text() + f'input {{ name: "FRAMES_ENCODED" data_type: TYPE_STRING dims: [{toy.T}] }}\n'
    )
    stage = models / "hiera" / "config.pbtxt"
    most = 'parameters { key: "max_encoded_frame_bytes" value: { string_value: "5000000" } }\n'
    stage.write_text(stage.read_text() + most)
    sound = toy.T * WINDOW_SAMPLES * 2 * 4
    assert largest_message(models) == toy.T * 5_000_000 + sound + SLACK_BYTES


def test_no_stream_is_let_in() -> None:
    names = {method.rpartition("/")[2] for method in (*METHODS, *LOCAL_MEMORY_METHODS)}
    assert not {name for name in names if "Stream" in name or name == "Watch" or "Cuda" in name}
