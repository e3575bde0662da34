"""Memory of a card that the server maps too, named after a region whose lock tells whether this process lives."""

import importlib
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auralsam2_client.errors import BadInput, ConfigError
from auralsam2_client.local_regions import Region

LIBRARY = "tritonclient.utils.cuda_shared_memory"
SUFFIX = "_card"
_VALUE = re.compile(r"cuda(?::(\d{1,3}))?")


def card_of(local_memory: bool | str) -> int | None:
    """Read the number of a card from a client's `local_memory`: "cuda" is 0, "cuda:1" is 1; None without a card.

    Raises: BadInput.
    """
    if isinstance(local_memory, bool):
        return None
    found = _VALUE.fullmatch(local_memory)
    if found is None:
        raise BadInput(f"local_memory = {local_memory!r}; must be False, True, 'cuda' or 'cuda:1'. Correct it.")
    return int(found[1] or 0)


class CardMemory:
    """CUDA memory of `num_bytes` on a card, by its number. `remove` it once the server has let go of it.

    Raises: ConfigError when there is no card, no package cuda-python, or no room.
    """

    def __init__(self, region: str, num_bytes: int, card: int) -> None:
        """`region`: name of the region of the host's memory beside it."""
        self.name, self.num_bytes, self.card = region + SUFFIX, num_bytes, card
        try:
            self._library: Any = importlib.import_module(LIBRARY)
            self._memory = self._library.create_shared_memory_region(self.name, num_bytes, card)
        # Without the package, the driver, the card or the room, each in a type of its own.
        except Exception as error:
            raise _no_card(card, error) from error

    def handle(self) -> bytes:
        """Give what another process opens it by."""
        found: bytes = self._library.get_raw_handle(self._memory)
        return found

    def write(self, values: NDArray[np.uint8]) -> None:
        """Copy an array to its beginning, and wait until it is there. Raises: ConfigError when the card fails."""
        try:
            self._library.set_shared_memory_region(self._memory, [values])
        except Exception as error:
            raise _no_card(self.card, error) from error

    def remove(self) -> None:
        """Free it. While another process has it open, that is not defined."""
        self._library.destroy_shared_memory_region(self._memory)


class LocalRegion(Region):
    """A region, and beside it memory of a card where frames go by that."""

    def __init__(self, num_bytes: int, card_bytes: int = 0, card: int = 0) -> None:
        """Raises: ConfigError as both."""
        super().__init__(num_bytes)
        self.card: CardMemory | None = None
        try:
            self.card = CardMemory(self.name, card_bytes, card) if card_bytes else None
        except ConfigError:
            super().remove()
            raise

    @property
    def card_bytes(self) -> int:
        """Bytes on the card."""
        return 0 if self.card is None else self.card.num_bytes

    def remove(self) -> None:
        """Remove both."""
        if self.card is not None and not self.removed:
            self.card.remove()
        super().remove()


def _no_card(card: int, error: Exception) -> ConfigError:
    words = " ".join(str(error).split()).rstrip(".")
    return ConfigError(
        f"local_memory='cuda:{card}' needs that NVIDIA card, room on it, and the package cuda-python ({words}). Use"
        " local_memory=True, or leave it out."
    )
