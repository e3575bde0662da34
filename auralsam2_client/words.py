"""A sentence as words, and words as numbers, as every part of the service reads them.

Client, stages and network read a sentence by the same code, and a build carries a copy of it.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence

from auralsam2_client.contract import MAX_TEXT_BYTES, MAX_WORDS

PADDING, UNKNOWN = 0, 1
# A word, or one sign that is neither part of a word, nor space, nor a mark between words.
_WORD = re.compile(r"\w+|[^\w\s]")
_MARKS = ("P", "C", "M")


def split_words(sentence: str) -> list[str]:
    """Cut a sentence into its words, in lower case. Marks between words are left out; another sign is a word."""
    plain = unicodedata.normalize("NFKC", sentence).casefold()
    return [word for word in _WORD.findall(plain) if not _is_mark(word)]


def too_many(words: Sequence[str]) -> str | None:
    """Say what is wrong with a sentence of more than MAX_WORDS words; cut, it would say something else. None: fits."""
    if len(words) <= MAX_WORDS:
        return None
    return f"text of {len(words)} words; {MAX_WORDS} are read. Say it in fewer."


def too_long(encoded: bytes) -> str | None:
    """Say what is wrong with a sentence of more than MAX_TEXT_BYTES bytes, which is not looked at. None: fits."""
    if len(encoded) <= MAX_TEXT_BYTES:
        return None
    return f"text of {len(encoded)} bytes; {MAX_TEXT_BYTES} are read. Say it in fewer words."


def number_vocabulary(vocabulary: Sequence[str]) -> dict[str, int]:
    """Give each word of a vocabulary its number, from UNKNOWN + 1 on."""
    return {word: number for number, word in enumerate(vocabulary, UNKNOWN + 1)}


def number_words(words: Sequence[str], numbers: Mapping[str, int]) -> tuple[int, ...]:
    """Give at most MAX_WORDS words MAX_WORDS numbers, PADDING behind the last word; of none, PADDING throughout."""
    return (*(numbers.get(word, UNKNOWN) for word in words), *[PADDING] * (MAX_WORDS - len(words)))


def _is_mark(word: str) -> bool:
    return len(word) == 1 and unicodedata.category(word).startswith(_MARKS)
