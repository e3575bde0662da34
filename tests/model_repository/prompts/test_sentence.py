"""TEXT at the stages: words, and what is refused before it is looked at."""

import numpy as np
import pytest

from auralsam2_client.contract import MAX_TEXT_BYTES, TEXT
from model_repository.stage_runtime.engine.refusals import BadRequest
from model_repository.stage_runtime.prompts import sentence
from model_repository.stage_runtime.prompts.sentence import read_words


def said(encoded: bytes) -> dict[str, np.ndarray]:
    return {TEXT: np.array([encoded], np.object_)}


def test_words_are_read_and_nothing_said_is_nothing() -> None:
    assert read_words(said(b"The star, that rings!")) == ("the", "star", "that", "rings")
    assert read_words({}) == read_words(said(b"")) == read_words(said(b"  ?!")) == ()


def test_a_text_of_many_bytes_is_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sentence, "split_words", lambda text: pytest.fail("it was cut into words"))
    for encoded in (b"a " * 10_000_000, b"a" * (MAX_TEXT_BYTES + 1)):
        with pytest.raises(BadRequest, match=rf"TEXT: text of {len(encoded)} bytes; {MAX_TEXT_BYTES} are read"):
            read_words(said(encoded))


def test_a_text_of_as_many_bytes_as_may_be_is_read() -> None:
    assert len(read_words(said(b"a" * MAX_TEXT_BYTES))) == 1
