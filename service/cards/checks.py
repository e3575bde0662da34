"""Whether a build may be served on the cards that are here: one sentence for each reason why not."""

import math
from dataclasses import dataclass
from enum import StrEnum

from auralsam2_client.errors import ConfigError
from service.cards.driver import LEAST_DRIVER, Card, Seen, version_text
from service.cards.torch_build import CUDA_BUILD, TorchBuild

AGAIN = "Export it again on this card with --target cuda"


class Problem(StrEnum):
    """Why a build is not served on a card: what a program reacts to, in place of the words."""

    NO_DRIVER = "no_driver"
    OLD_DRIVER = "old_driver"
    CPU_TORCH = "cpu_torch"
    NO_CARD = "no_card"
    OTHER_CARD = "other_card"
    MEMORY = "memory"
    LOST = "lost"


class CardError(ConfigError):
    """A card, its driver or the torch for it does not fit, as `problem` says."""

    def __init__(self, message: str, problem: Problem) -> None:
        super().__init__(message)
        self.problem = problem


@dataclass(frozen=True)
class Need:
    """What a build asks of a card. None: anything will do."""

    name: str | None = None
    """The card that the build was compiled and compared on, as "NVIDIA H200"."""
    capability: int | None = None
    """90 is 9.0."""
    memory_bytes: int | None = None
    """Weights, maps and graphs together."""
    cuda: tuple[int, int] | None = None
    """The CUDA that its torch is built for."""


@dataclass(frozen=True)
class Fit:
    """The cards that serve a build, at least one, and a sentence on each of the others."""

    cards: tuple[Card, ...]
    notes: tuple[str, ...] = ()


def check_torch(torch: TorchBuild | None) -> tuple[int, int]:
    """Read the CUDA that the installed torch is built for. Raises: CardError where it is none."""
    if torch is None or torch.cuda is None:
        found = "no PyTorch is installed" if torch is None else f"PyTorch {torch.version} is a CPU build"
        raise CardError(f"{found}, and a card needs a CUDA build: {CUDA_BUILD}", Problem.CPU_TORCH)
    return torch.cuda


def check_driver(need: Need, seen: Seen) -> None:
    """Compare the driver with the CUDA that is needed. Raises: CardError where there is none, or an old one."""
    if seen.version is None:
        raise CardError(
            f"a build for CUDA needs an NVIDIA card, and {seen.reason}. Install NVIDIA's driver (in a container: start"
            " it with --gpus all), or export with --device cpu or --target cpu.",
            Problem.NO_DRIVER,
        )
    if need.cuda is not None and seen.cuda is not None and seen.cuda[0] < need.cuda[0]:
        least = LEAST_DRIVER.get(need.cuda[0])
        needs = "a newer driver" if least is None else f"driver {least} or newer"
        raise CardError(
            f"the driver {seen.version} runs CUDA up to {version_text(seen.cuda)}, and PyTorch is built for CUDA"
            f" {version_text(need.cuda)}, which needs {needs}. Update NVIDIA's driver.",
            Problem.OLD_DRIVER,
        )


def check_card(need: Need, card: Card) -> None:
    """Compare one card with what a build needs. Raises: CardError where it is another card, or has too little free."""
    other_name = need.name is not None and need.name != card.name
    other_kind = None not in (need.capability, card.capability) and need.capability != card.capability
    if other_name or other_kind:
        capability = None if need.capability is None else f"compute capability {need.capability / 10:.1f}"
        made_for = f"{need.name} ({capability})" if need.name and capability else need.name or capability
        raise CardError(
            f"the build was made for {made_for}, and GPU {card.index} is {card}. {AGAIN}.", Problem.OTHER_CARD
        )
    if need.memory_bytes is not None and card.free_bytes is not None and card.free_bytes < need.memory_bytes:
        total = "" if card.memory_bytes is None else f" of {card.memory_bytes >> 20}"
        least = math.ceil(need.memory_bytes / (1 << 20))
        raise CardError(
            f"GPU {card.index}, {card.name}, has {card.free_bytes >> 20} MiB{total} free, and {least} MiB are"
            " needed. End what else runs on it, take a larger card, or export fewer frames, smaller images or a smaller"
            " preset.",
            Problem.MEMORY,
        )


def fit_cards(need: Need, seen: Seen) -> Fit:
    """Choose the cards that a build may be served on; another card that does not fit stops nobody.

    Raises: CardError on the driver, on no card, or, where none fits, on the first.
    """
    check_driver(need, seen)
    if not seen.cards:
        raise CardError(
            f"a build for CUDA needs an NVIDIA card, and {seen.reason}. Free one (CUDA_VISIBLE_DEVICES; in a container:"
            " --gpus all), or export with --device cpu or --target cpu.",
            Problem.NO_CARD,
        )
    fitting: list[Card] = []
    refused: list[CardError] = []
    for card in seen.cards:
        try:
            check_card(need, card)
        except CardError as error:
            refused.append(error)
        else:
            fitting.append(card)
    if not fitting:
        raise refused[0]
    return Fit(tuple(fitting), tuple(str(error) for error in refused))


def lost_cards(used: tuple[Card, ...], seen: Seen) -> tuple[CardError, ...]:
    """Say which of the cards in use the driver no longer shows; they are told apart by their UUIDs."""
    present = {card.uuid for card in seen.cards}
    gone = [card for card in used if card.uuid not in present]
    left = [card for card in used if card.uuid in present]
    others = ", ".join(f"GPU {card.index}" for card in left)
    after = f"The server goes on with {others}" if left else "No other card is left; restart the driver or the machine"
    why = f" ({seen.reason})" if seen.reason else ""
    return tuple(
        CardError(f"GPU {card.index}, {card.name}, has disappeared{why}. {after}.", Problem.LOST) for card in gone
    )
