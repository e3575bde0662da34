"""What is served, as callers read it, and what is said where the weights know nothing of the clip."""

import json

import numpy as np
import pytest

from auralsam2_client.contract import NOTHING, PROCEDURAL_WORLD, BuildInfo
from auralsam2_client.errors import ServerFault
from auralsam2_client.knowledge import LEAST_SHARE, knowledge_notes, read_build_info

INFO: BuildInfo = {
    "build": "compact-256-t5",
    "method": "auralsam2",
    "classes": "",
    "text": "",
    "target": "cpu",
    "engine": "openvino",
    "precision": "float32",
    "weights": "Weights from a file.",
    "trained_on": "AVSBench V1M",
    "checkpoint_sha256": "ab" * 32,
    "conditioning_frame": "2",
}


def knowing(trained_on: str) -> BuildInfo:
    return {**INFO, "trained_on": trained_on}


def tensor(text: str) -> np.ndarray:
    return np.array([text.encode()], np.object_)


def test_what_is_served_is_read_as_it_was_written() -> None:
    assert read_build_info(tensor(json.dumps({**INFO, "of_a_later_release": 1}))) == INFO


@pytest.mark.parametrize("text", ["", "{}", "[]", "7", json.dumps({**INFO, "build": None})[:-9]])
def test_what_cannot_be_read_is_the_servers_fault(text: str) -> None:
    with pytest.raises(ServerFault, match="Export it again"):
        read_build_info(tensor(text))


@pytest.mark.parametrize(
    ("trained_on", "procedural", "words"),
    [
        (PROCEDURAL_WORLD, False, "made-up world and nothing of real scenes"),
        (PROCEDURAL_WORLD, True, ""),
        (NOTHING, False, "untrained"),
        (NOTHING, True, "untrained"),
        ("AVSBench V1M", False, ""),
        ("", False, ""),
    ],
)
def test_a_clip_that_the_weights_do_not_know_is_told(trained_on: str, procedural: bool, words: str) -> None:
    notes = knowledge_notes(knowing(trained_on), procedural=procedural, share=0.3, use_audio=True)
    assert len(notes) == bool(words)
    assert all(words in note for note in notes)


def test_a_server_that_does_not_say_is_not_guessed_at() -> None:
    assert knowledge_notes(None, procedural=False, share=0.3, use_audio=True) == ()


@pytest.mark.parametrize(
    ("use_audio", "says", "words"),
    [
        (True, False, "nothing that sounds"),
        (False, False, "nothing that is marked"),
        (True, True, "nothing that is meant"),
        (False, True, "nothing that is meant"),
    ],
)
def test_next_to_nothing_is_said_whatever_the_weights(use_audio: bool, says: bool, words: str) -> None:
    def notes(share: float) -> tuple[str, ...]:
        return knowledge_notes(INFO, procedural=False, share=share, use_audio=use_audio, says=says)

    (note,) = notes(0.004)
    assert words in note
    assert "0.40%" in note
    assert notes(LEAST_SHARE) == ()
