"""Sentences as numbers: every word that training says has one, others are unknown, nothing said is padding."""

import ast
import sys
from pathlib import Path

import pytest

from auralsam2.data.world.sentences import PLACES, SEEN, TEXTURES, UNSEEN, VERBS, Forms
from auralsam2.data.world.shapes import SHAPES
from auralsam2.data.world.surfaces import SEEN_TEXTURES, UNSEEN_TEXTURES
from auralsam2.errors import NetworkError
from auralsam2.text import tokeniser
from auralsam2.text.tokeniser import NUM_TOKENS, PADDING, UNKNOWN, VOCABULARY, Tokeniser
from auralsam2_client.words import split_words

NOTHING = (PADDING,) * NUM_TOKENS


def words_of(forms: Forms, textures: tuple[str, ...]) -> set[str]:
    """Every word that sentences of these forms can hold."""
    found: set[str] = set()
    for form in vars(forms).values():
        for shape, verb in VERBS.items():
            for texture in textures:
                for place in PLACES:
                    found |= set(split_words(form.format(look=TEXTURES[texture], shape=shape, verb=verb, place=place)))
    return found


def test_the_vocabulary_is_what_training_says_and_no_more() -> None:
    assert set(VOCABULARY) == words_of(SEEN, SEEN_TEXTURES)
    assert len(set(VOCABULARY)) == len(VOCABULARY)


def test_unseen_sentences_have_words_that_nobody_knows_and_name_their_thing_all_the_same() -> None:
    unknown = words_of(UNSEEN, UNSEEN_TEXTURES) - set(VOCABULARY)
    assert {"whatever", "surface", *(TEXTURES[kind] for kind in UNSEEN_TEXTURES)} <= unknown
    assert not unknown & {*SHAPES, *VERBS.values(), *PLACES, "sounds"}


def test_every_word_has_a_number_of_its_own() -> None:
    tokenise = Tokeniser()
    assert [tokenise(word)[0] for word in VOCABULARY] == list(range(UNKNOWN + 1, tokenise.num_words))
    assert tokenise.num_words == UNKNOWN + 1 + len(VOCABULARY)


def test_words_come_first_and_padding_fills_up() -> None:
    tokenise = Tokeniser(("star", "the"))
    assert tokenise("the star") == (3, 2, *[PADDING] * (NUM_TOKENS - 2))
    assert tokenise("the green star") == (3, UNKNOWN, 2, *[PADDING] * (NUM_TOKENS - 3))


@pytest.mark.parametrize(
    "sentence",
    ["The STAR!", "  the,\tstar \n", "\u201cthe star\u201d\u2026", "the\u00a0star", "\uff54he star", "\u200bthe star"],
)
def test_case_marks_and_space_say_nothing(sentence: str) -> None:
    tokenise = Tokeniser()
    assert tokenise(sentence) == tokenise("the star")


@pytest.mark.parametrize("sentence", ["", "   ", "\n\t", "?!", "...", "\u0301", "\x00"])
def test_where_no_word_is_nothing_is_said(sentence: str) -> None:
    assert Tokeniser()(sentence) == NOTHING


@pytest.mark.parametrize(
    "sentence", ["\u5de6\u8fb9\u7684\u661f", "\U0001f3b5", "\u0437\u0432\u0435\u0437\u0434\u0430", "x1_y", "+"]
)
def test_characters_from_elsewhere_are_one_unknown_word(sentence: str) -> None:
    assert Tokeniser()(sentence) == (UNKNOWN, *NOTHING[1:])


def test_too_many_words_are_refused_not_cut() -> None:
    tokenise = Tokeniser()
    assert tokenise("star " * NUM_TOKENS).count(PADDING) == 0
    with pytest.raises(NetworkError, match=r"text of 26 words; 25 are read\. Say it in fewer\."):
        tokenise("star " * (NUM_TOKENS + 1))


def test_it_needs_no_package_of_others() -> None:
    tree = ast.parse(Path(tokeniser.__file__).read_text())
    names = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    names |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    ours = {str(name) for name in names if str(name).partition(".")[0] not in sys.stdlib_module_names}
    assert ours == {"auralsam2.errors", "auralsam2_client.contract", "auralsam2_client.words"}
