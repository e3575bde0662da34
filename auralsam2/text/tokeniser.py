"""A sentence as numbers of words. Plain Python: what serves a network need not hold PyTorch to read a sentence.

A sentence is cut into words, case and marks between them aside; each word has the number of its place in the
vocabulary, one that is not there the number UNKNOWN, and PADDING fills up. No words at all are padding throughout,
which says nothing: the network then listens to the sound alone.
"""

from collections.abc import Sequence

from auralsam2.errors import NetworkError
from auralsam2_client.contract import MAX_WORDS
from auralsam2_client.words import PADDING as PADDING
from auralsam2_client.words import UNKNOWN as UNKNOWN
from auralsam2_client.words import number_vocabulary, number_words, split_words, too_many

NUM_TOKENS = MAX_WORDS
VOCABULARY = (
    *("the", "shape", "that", "sounds"),
    *("disc", "ring", "square", "cross", "triangle", "star"),
    *("plain", "striped", "shaded", "speckled"),
    *("rings", "blows", "rattles", "twangs", "chirps", "whistles"),
    *("leftmost", "rightmost", "highest", "lowest"),
)
"""What sentences of the procedural world are made of in training; words of its unseen splits are not here."""


class Tokeniser:
    """Gives words their numbers."""

    def __init__(self, vocabulary: Sequence[str] = VOCABULARY) -> None:
        self.vocabulary = tuple(vocabulary)
        self._numbers = number_vocabulary(self.vocabulary)

    @property
    def num_words(self) -> int:
        """Tell how many numbers there are, PADDING and UNKNOWN among them."""
        return UNKNOWN + 1 + len(self.vocabulary)

    def __call__(self, sentence: str) -> tuple[int, ...]:
        """Number the words of a sentence: NUM_TOKENS numbers, PADDING behind the last word; "": PADDING throughout.

        Raises: NetworkError for more than NUM_TOKENS words: cut, they would say something else.
        """
        words = split_words(sentence)
        wrong = too_many(words)
        if wrong is not None:
            raise NetworkError(wrong)
        return number_words(words, self._numbers)
