"""What a device fails with: said in one sentence, and told to whoever started the server when the card is gone.

An error of the CUDA runtime ends the context of the process: nothing on that card can be had from it any more. So the
card is noted in a file of this launch, and whoever watches the server starts it again without that card.
"""

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import torch

from auralsam2_client.contract import LAUNCH_VARIABLE, Reason, failed_cards_path

from ...engine.refusals import Refusal

UUID_PREFIX = "GPU-"
# cudaErrorMemoryAllocation. Beside PyTorch's own allocator, of page-locked memory and of graphs; the context lives on.
NO_MEMORY = 2


class CardFailed(Refusal):
    """The card has no memory left, or is gone. A caller may come again: another card, or this one, will answer."""

    reason = Reason.UNREADY


@dataclass(frozen=True)
class Card:
    """The device of a stage, as it is known before anything fails."""

    device: torch.device
    name: str
    uuid: str

    @classmethod
    def of(cls, device: torch.device) -> "Card":
        """Ask the CUDA runtime; of a CPU there is nothing to ask."""
        if device.type != "cuda":
            return cls(device, "the CPU", "")
        found = torch.cuda.get_device_properties(device)
        uuid = str(found.uuid)
        return cls(device, found.name, uuid if uuid.startswith(UUID_PREFIX) else UUID_PREFIX + uuid)

    def explain(self, error: Exception) -> CardFailed | None:
        """Say what an error of the device means to a caller; None for one that is not the device's.

        A card that is gone is noted for whoever watches the server.
        """
        if isinstance(error, torch.OutOfMemoryError) or getattr(error, "error_code", None) == NO_MEMORY:
            return CardFailed(
                f"{self.name} has no memory left for this request. Repeat it after a pause; end sessions or other"
                " programs on the card if it stays so."
            )
        if isinstance(error, torch.AcceleratorError):
            self.note_failure(str(error).splitlines()[0])
            return CardFailed(f"{self.name} has failed and is taken out of service. Repeat the call after a pause.")
        return None

    def note_failure(self, words: str) -> None:
        """Leave a line for whoever started the server. One without a launch has nobody to tell.

        Where it cannot be written, the caller gets an answer all the same.
        """
        mark = os.environ.get(LAUNCH_VARIABLE, "")
        if not mark:
            return
        with contextlib.suppress(OSError):
            _append(failed_cards_path(mark), {"uuid": self.uuid, "name": self.name, "words": words})


def _append(path: Path, record: dict[str, str]) -> None:
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")
