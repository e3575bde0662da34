"""A sentence as numbers of words. Plain Python: what serves a network need not hold PyTorch to read a sentence.

A sentence is cut into words, case and marks between them aside; each word has the number of its place in the
vocabulary, one that is not there the number UNKNOWN, and PADDING fills up. No words at all are padding throughout,
which says nothing: the network then listens to the sound alone.
"""

import re
import unicodedata
from collections.abc import Sequence

from auralsam2.errors import NetworkError

PADDING, UNKNOWN = 0, 1
NUM_TOKENS = 25
"""Of every sentence, as Ref-AVS reads it."""
VOCABULARY = (
    *("the", "shape", "that", "sounds"),
    *("disc", "ring", "square", "cross", "triangle", "star"),
    *("plain", "striped", "shaded", "speckled"),
    *("rings", "blows", "rattles", "twangs", "chirps", "whistles"),
    *("leftmost", "rightmost", "highest", "lowest"),
)
"""What sentences of the procedural world are made of in training; words of its unseen splits are not here."""
# A word, or one sign that is neither part of a word, nor space, nor a mark between words.
_WORD = re.compile(r"\w+|[^\w\s]")
_MARKS = ("P", "C", "M")


def split_words(sentence: str) -> list[str]:
    """Cut a sentence into its words, in lower case. Marks between words are left out; another sign is a word."""
    plain = unicodedata.normalize("NFKC", sentence).casefold()
    return [word for word in _WORD.findall(plain) if not _is_mark(word)]


def _is_mark(word: str) -> bool:
    return len(word) == 1 and unicodedata.category(word).startswith(_MARKS)


class Tokeniser:
    """Gives words their numbers."""

    def __init__(self, vocabulary: Sequence[str] = VOCABULARY) -> None:
        self.vocabulary = tuple(vocabulary)
        self._numbers = {word: number for number, word in enumerate(self.vocabulary, UNKNOWN + 1)}

    @property
    def num_words(self) -> int:
        """Tell how many numbers there are, PADDING and UNKNOWN among them."""
        return UNKNOWN + 1 + len(self.vocabulary)

    def __call__(self, sentence: str) -> tuple[int, ...]:
        """Number the words of a sentence: NUM_TOKENS numbers, PADDING behind the last word; "": PADDING throughout.

        Raises: NetworkError for more than NUM_TOKENS words: cut, they would say something else.
        """
        words = split_words(sentence)
        if len(words) > NUM_TOKENS:
            raise NetworkError(f"text of {len(words)} words; {NUM_TOKENS} are read. Say it in fewer.")
        numbers = [self._numbers.get(word, UNKNOWN) for word in words]
        return (*numbers, *[PADDING] * (NUM_TOKENS - len(numbers)))
