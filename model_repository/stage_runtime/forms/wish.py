"""What a caller says of the answer's form: ANSWER and OUTPUT_SIZE, read and checked."""

from collections.abc import Mapping
from dataclasses import dataclass

from auralsam2_client.contract import ANSWERS, MAX_OUTPUT_SIDE

from ..engine import Array
from ..engine.refusals import BadRequest


@dataclass(frozen=True)
class Wish:
    """The form of the masks, of ANSWERS; None: all of the results, as logits."""

    form: str | None = None
    height: int = 0
    width: int = 0
    """Of the masks in the form "rle", in pixels."""


def read_wish(tensors: Mapping[str, Array]) -> Wish:
    """Read the wish among a request's optional tensors, whose shapes and types are those of the contract.

    Raises: BadRequest naming the value, the limit and the way out.
    """
    size = [int(side) for side in tensors["OUTPUT_SIZE"]] if "OUTPUT_SIZE" in tensors else []
    if not all(1 <= side <= MAX_OUTPUT_SIDE for side in size):
        raise BadRequest(
            f"OUTPUT_SIZE is {size}; height and width must be 1 to {MAX_OUTPUT_SIDE} each. Ask for a smaller mask, and"
            " enlarge it."
        )
    if "ANSWER" not in tensors:
        return Wish()
    index, forms = int(tensors["ANSWER"].reshape(-1)[0]), list(ANSWERS)
    if not 0 <= index < len(forms):
        known = ", ".join(f"{index} ({form})" for index, form in enumerate(forms))
        raise BadRequest(f"ANSWER is {index}; must be {known}. Leave it out for logits and candidates.")
    form = forms[index]
    if form != "rle":
        return Wish(form)
    if not size:
        raise BadRequest("ANSWER is 3 (rle) without OUTPUT_SIZE. Send the height and width that the masks are to have.")
    return Wish(form, *size)
