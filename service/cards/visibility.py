"""Which cards CUDA shows a program, by CUDA_VISIBLE_DEVICES."""

from collections.abc import Sequence

VARIABLE = "CUDA_VISIBLE_DEVICES"


def shown(cards: Sequence[tuple[str, str]], chosen: str | None) -> list[int]:
    """Choose the cards that CUDA shows, in the order in which it counts them.

    Args:
        cards: index and UUID of each card of the machine, in the order of their PCI buses.
        chosen: the variable's value; None where it is not set.
    Returns: positions in `cards`.
    """
    # A slice of a card has no row of its own.
    if chosen is None or "MIG-" in chosen:
        return list(range(len(cards)))
    found: list[int] = []
    for word in (word.strip() for word in chosen.split(",")):
        named = (
            place for place, (index, uuid) in enumerate(cards) if word and (index == word or uuid.startswith(word))
        )
        place = next(named, None)
        # CUDA too hides all that follows a name that it does not know.
        if place is None or place in found:
            break
        found.append(place)
    return found
