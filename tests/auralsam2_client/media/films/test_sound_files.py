"""Sound out of any file: formats, joined and damaged ones, and files that have none."""

import re
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from auralsam2_client.errors import BadInput
from auralsam2_client.media.containers import packets
from auralsam2_client.media.notes import Notes
from auralsam2_client.media.reader import read_media
from auralsam2_client.media.sound_reader import read_sound_file
from tests.auralsam2_client.media.films import filming, telling

SOUND_FILES = [
    ("memo.m4a", "aac", "ipod", "fltp"),
    ("memo.aac", "aac", "adts", "fltp"),
    ("memo.mp3", "libmp3lame", "mp3", "s16p"),
    ("memo.opus", "libopus", "opus", "flt"),
    ("memo.webm", "libopus", "webm", "flt"),
    ("memo.mka", "flac", "matroska", "s16"),
    ("memo.ac3", "ac3", "ac3", "fltp"),
    ("memo.caf", "pcm_s16be", "caf", "s16"),
    ("memo.aiff", "pcm_s16be", "aiff", "s16"),
    ("memo.wv", "wavpack", "wv", "fltp"),
    ("memo.ts", "mp2", "mpegts", "s16p"),
]


@pytest.fixture(scope="module")
def mute(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return filming.film(tmp_path_factory.mktemp("mute") / "mute.mp4", 3, silent=True)


@pytest.mark.parametrize(("name", "codec", "container", "sample_format"), SOUND_FILES)
def test_any_file_with_sound_will_do(
    mute: Path, tmp_path: Path, name: str, codec: str, container: str, sample_format: str
) -> None:
    memo = filming.write_sound(tmp_path / name, telling.pitches(3), codec, container, sample_format)
    found = read_media(mute, sound_path=memo, strict=True)
    assert (telling.numbers(found), telling.seconds(found)) == ([0, 25, 50], [0, 1, 2])


def test_the_sound_of_another_video(mute: Path, film: Path) -> None:
    assert telling.seconds(read_media(mute, sound_path=film)) == [0, 1, 2]
    assert telling.seconds(read_media(mute, sound_path=film, audio_track=1)) == [0, 1, 2]
    with pytest.raises(BadInput, match=r"--audio-track 2, but .* has 1 sound track,"):
        read_media(mute, sound_path=film, audio_track=2)
    with pytest.raises(BadInput, match=r"mute\.mp4 has no sound track"):
        read_media(mute, sound_path=mute)


def heard(path: Path, notes: Notes | None = None) -> list[int | None]:
    sound = read_sound_file(path, 100.0, notes=notes)
    return [telling.second_at(sound, float(second)) for second in range(round(len(sound) / 16_000))]


def test_joined_sounds_are_read_to_their_end(tmp_path: Path) -> None:
    pieces = [
        filming.write_sound(tmp_path / f"{first}.opus", telling.pitches(3, first), "libopus", "ogg", "flt")
        for first in (0, 3)
    ]
    joined = tmp_path / "joined.opus"
    joined.write_bytes(b"".join(piece.read_bytes() for piece in pieces))
    assert heard(joined) == list(range(6))


def test_a_hole_in_a_sound_file_keeps_the_rest_in_step(tmp_path: Path) -> None:
    whole = filming.write_sound(tmp_path / "a.opus", telling.pitches(5), "libopus", "ogg", "flt")
    content = bytearray(whole.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 3000] = bytes(3000)
    whole.write_bytes(content)
    notes = Notes("a.opus")
    found = heard(whole, notes)
    assert [second for second in found if second is not None] == [k for k in range(5) if found[k] is not None]
    assert None in found
    assert re.search("the sound has 1 gap", notes.lines[0])


def test_a_wav_that_broke_off_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, telling.pitches(3), telling.RATE)
    content = path.read_bytes()
    notes = Notes("a.wav")
    assert (heard(path, notes), notes.damage) == ([0, 1, 2], [])
    path.write_bytes(content[: 44 + 2 * 4 * telling.RATE])
    assert heard(path, notes) == [0, 1]
    assert re.search(r"a\.wav ends at 2\.00 s, \d+ bytes before its header says", notes.damage[0])
    # A recorder that writes into a pipe cannot know the length.
    path.write_bytes(content[:4] + b"\xff" * 4 + content[8 : 44 + 2 * 4 * telling.RATE])
    notes = Notes("a.wav")
    assert (heard(path, notes), notes.damage) == ([0, 1], [])


def test_plain_files_are_read_to_the_bit(tmp_path: Path) -> None:
    sound = np.random.default_rng(0).uniform(-1, 1, (16_000, 2)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", sound, 16_000, subtype="FLOAT")
    np.testing.assert_array_equal(read_sound_file(tmp_path / "a.wav", 100.0), sound)


def test_what_is_no_sound_file_is_named_as_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match=r"is no file\. Check the name"):
        read_sound_file(tmp_path, 1.0)
    (tmp_path / "a.m4a").write_bytes(b"nothing")

    def denied(*_: object, **__: object) -> None:
        raise av.error.PermissionError(13, "Permission denied")

    monkeypatch.setattr(av, "open", denied)
    with pytest.raises(BadInput, match=r"a\.m4a cannot be read: Permission denied\. Check its permissions"):
        packets.open_container(tmp_path / "a.m4a")
