"""TEXT as it crosses the wire, checked once: bytes to words."""

from collections.abc import Mapping

from auralsam2_client.contract import TEXT
from auralsam2_client.words import split_words, too_long, too_many

from ..engine import Array
from ..engine.refusals import BadRequest


def read_words(tensors: Mapping[str, Array]) -> tuple[str, ...]:
    """Read the words of TEXT; none where it did not come, is empty, or has no word in it: then nothing is said.

    Raises: BadRequest for several texts, for bytes that are not UTF-8, and for too many words or bytes.
    """
    if TEXT not in tensors:
        return ()
    given = tensors[TEXT]
    if given.shape != (1,):
        raise BadRequest(
            f"{TEXT} is {list(given.shape)}; must be [1]: one sentence for the clip. Join them, or ask twice."
        )
    encoded = bytes(given[0])
    long = too_long(encoded)
    if long is not None:
        raise BadRequest(f"{TEXT}: {long}")
    try:
        words = split_words(encoded.decode())
    except UnicodeDecodeError as error:
        raise BadRequest(
            f"{TEXT} is no UTF-8: byte {error.object[error.start]:#04x} at {error.start}. Encode the sentence as UTF-8."
        ) from None
    wrong = too_many(words)
    if wrong is not None:
        raise BadRequest(f"{TEXT}: {wrong}")
    return tuple(words)
