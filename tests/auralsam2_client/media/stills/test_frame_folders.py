"""A folder of frames as a person has it: numbered without zeros, with what a Mac left there, in 16 bits."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from auralsam2_client.errors import BadInput
from auralsam2_client.media.reader import read_media


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Frames 1 to 12, each as bright as its number, with a second of sound each, as loud as its number."""
    for number in range(1, 13):
        Image.new("L", (16, 8), 20 * number).save(tmp_path / f"{number}.png")
        (tmp_path / f"._{number}.png").write_bytes(b"\x00\x05\x16\x07")
    loudness = np.repeat(np.arange(1, 13) / 20, 16_000)
    soundfile.write(tmp_path / "sound.wav", np.stack([loudness, loudness], axis=1), 16_000, subtype="FLOAT")
    (tmp_path / "._sound.wav").write_bytes(b"\x00\x05\x16\x07")
    (tmp_path / ".DS_Store").write_bytes(b"Bud1")
    return tmp_path


def test_frames_are_in_the_order_of_their_numbers(folder: Path) -> None:
    found = read_media(folder)
    assert [int(frame[0, 0, 0]) // 20 for frame in found.frames] == list(range(1, 13))
    assert found.sound is not None
    np.testing.assert_allclose(found.sound[8_000::16_000, 0][:12], np.arange(1, 13) / 20, atol=0.01)


def test_each_frame_names_its_file(folder: Path) -> None:
    assert read_media(folder, start_s=8.0, max_frames=3, silent=True).files == ("9.png", "10.png", "11.png")


def test_two_sounds_are_named_without_left_overs(folder: Path) -> None:
    soundfile.write(folder / "b.WAV", np.zeros((16_000, 2)), 16_000)
    with pytest.raises(BadInput, match=r"holds 2 WAV files \(b\.WAV, sound\.wav\)"):
        read_media(folder)


def test_16_bit_frames_are_not_white(tmp_path: Path) -> None:
    for index in range(2):
        Image.fromarray(np.full((8, 16), 32_768, np.uint16)).save(tmp_path / f"{index}.png")
    assert (read_media(tmp_path, silent=True).frames == 128).all()
