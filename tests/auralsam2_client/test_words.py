"""Text on its way to the server: what goes on the wire, and what is refused before anything is sent."""

from typing import Any

import numpy as np
import pytest

from auralsam2_client.calls.endpoint import plan_infer, plan_segment
from auralsam2_client.calls.segmentation import prepare_clip
from auralsam2_client.calls.wire import Call, ClipShape
from auralsam2_client.contract import MAX_WORDS, PROMPT_MODE
from auralsam2_client.errors import BadInput, ConfigError
from auralsam2_client.prompts import Prompts, text_tensors
from auralsam2_client.words import PADDING, UNKNOWN, number_vocabulary, number_words

PLAIN = ClipShape(2, 32, takes_prompts=True)
READING = ClipShape(2, 32, takes_prompts=True, takes_text=True)
FRAMES = np.zeros((2, 32, 32, 3), np.uint8)
AUDIO = np.zeros((2, 15600, 2), np.float32)
MARK = Prompts(points=[(3, 4, "+")])


def call(shape: ClipShape = READING, audio: Any = AUDIO, **asked: Any) -> Call:
    given = {"prompts": None, "use_audio": True, "combination": "mean", "wire": "raw", "answer": "logits", **asked}
    return plan_segment(FRAMES, audio, **given)(shape)


def test_text_goes_as_it_is_and_the_mode_is_asked_for() -> None:
    made = call(text="Die größte Scheibe!")
    assert made.tensors["TEXT"].tolist() == ["Die größte Scheibe!".encode()]
    assert PROMPT_MODE in made.outputs
    assert {"FRAMES", "AUDIO", "TEXT"} == set(made.tensors)
    both = call(audio=None, text="a star", prompts=MARK, use_audio=False)
    assert {"TEXT", "POINT_COORDS", "USE_AUDIO"} <= set(both.tensors)
    alone = call(audio=None, text="a star", use_audio=False)
    assert alone.tensors["USE_AUDIO"].tolist() == [False]


@pytest.mark.parametrize("text", [None, "", "  ", "?!"])
def test_where_no_word_is_nothing_is_sent_and_every_build_takes_it(text: str | None) -> None:
    assert set(call(PLAIN, text=text).tensors) == {"FRAMES", "AUDIO"}
    with pytest.raises(BadInput, match="no prompts and no text, so that nothing says what to segment"):
        call(audio=None, text=text, use_audio=False)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("star " * (MAX_WORDS + 1), r"text of 26 words; 25 are read\. Say it in fewer"),
        ("s" * 2049, r"text of 2049 bytes; 2048 are read\. Say it in fewer words"),
        ("a \udcff star", r"text has '\\udcff' at 2, half a character, which is no UTF-8"),
        (b"a star", r"text is a bytes; must be a str"),
    ],
)
def test_bad_text_is_refused_with_the_way_out(text: Any, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        prepare_clip(FRAMES, AUDIO, READING, None, True, "mean", text=text)


def test_text_for_a_build_without_is_refused_before_anything_is_sent() -> None:
    raw = plan_infer(FRAMES, AUDIO, text_tensors("a star"), ["MASK_LOGITS"])
    words = r"text for a build without.*exported with --text, or leave the text out"
    with pytest.raises(ConfigError, match=words):
        call(PLAIN, text="a star")
    with pytest.raises(ConfigError, match=words):
        raw(PLAIN)
    assert "TEXT" in raw(READING).tensors


def test_words_have_numbers_and_padding_fills_up() -> None:
    numbers = number_vocabulary(("star", "the"))
    assert numbers == {"star": UNKNOWN + 1, "the": UNKNOWN + 2}
    assert number_words(("the", "green", "star"), numbers) == (3, UNKNOWN, 2, *[PADDING] * (MAX_WORDS - 3))
    assert number_words((), numbers) == (PADDING,) * MAX_WORDS
