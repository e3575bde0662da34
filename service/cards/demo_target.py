"""Where the demo runs: on the card, where there is one that will do, else on the CPU; and the sentences that say so."""

from dataclasses import dataclass

from service.cards.checks import CardError, Need, Problem, check_driver, check_torch, fit_cards
from service.cards.driver import Card, Seen
from service.cards.torch_build import TorchBuild


@dataclass(frozen=True)
class DemoTarget:
    """What the demo exports for."""

    target: str
    """For `auralsam2 export`: "cuda" or "cpu"."""
    place: str
    """The card and its driver, or why it is not used; empty on a machine without a driver."""
    cards: tuple[Card, ...] = ()

    @property
    def opening(self) -> str:
        """Say before the export where the demo will run."""
        if self.target == "cuda":
            return f"on {self.place}"
        return f"on the CPU: {self.place}" if self.place else ""

    def closing(self, precision: str, frames_per_second: float) -> str:
        """Say after the run what the card did; "" on a CPU, whose table says it all."""
        if self.target != "cuda":
            return ""
        return (
            f"served on {self.place}, in {precision}: {frames_per_second:.1f} frames a second through gRPC, one caller"
        )

    def fall_back(self, error: Exception) -> "DemoTarget":
        """Turn to the CPU, for a reason that export or server gave."""
        return DemoTarget("cpu", f"the card is not used, since {error}")


def target_for_demo(seen: Seen, torch: TorchBuild | None) -> DemoTarget:
    """Choose "cuda" where driver, card and torch fit each other, else "cpu" with the reason."""
    try:
        check_driver(Need(), seen)
        fit = fit_cards(Need(cuda=check_torch(torch)), seen)
    except CardError as error:
        quiet = error.problem is Problem.NO_DRIVER
        return DemoTarget("cpu", "" if quiet else f"the card is not used, since {error}")
    return DemoTarget("cuda", f"{', '.join(map(str, fit.cards))}, {seen}", fit.cards)
