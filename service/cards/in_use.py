"""The cards that a server computes on: those that fit its build, without those that have failed since.

A stage whose card fails leaves a note (`failed_cards_path`); the server is then started again on the cards that are
left. A card that has failed is not used again while another one is left.
"""

import json
from collections.abc import Collection
from dataclasses import replace

from auralsam2_client.contract import failed_cards_path
from service.cards.checks import Fit, Need, check_torch, fit_cards
from service.cards.driver import Card, Driver, installed_driver
from service.cards.torch_build import TorchBuild, installed_torch


class CardsInUse:
    """Kept over the restarts of one service.

    Args:
        driver: of this machine, or a stand-in.
        torch: what is installed; None asks.
    """

    def __init__(self, driver: Driver | None = None, torch: TorchBuild | None = None) -> None:
        self._driver = installed_driver() if driver is None else driver
        self._torch = torch
        self._failed: dict[str, str] = {}
        self._used: tuple[Card, ...] = ()

    @property
    def used(self) -> tuple[Card, ...]:
        """Those of the last `choose`."""
        return self._used

    def choose(self, need: Need) -> Fit:
        """Choose the cards for a start.

        Args:
            need: of the build, without its CUDA, which is that of the installed torch.
        Raises: CardError when none fits, with what stands in the way of the first.
        """
        cuda = check_torch(installed_torch() if self._torch is None else self._torch)
        seen = self._driver.look()
        left = tuple(card for card in seen.cards if card.uuid not in self._failed)
        told = [f"{words}; it is taken out" for words in self._failed.values()]
        if seen.cards and not left:
            # One bad request may have ended a context; the card itself may be well, and nothing else is left.
            told = [f"{words}, and no other card is left: it is tried again" for words in self._failed.values()]
            left = seen.cards
            self._failed.clear()
        fit = fit_cards(replace(need, cuda=cuda), replace(seen, cards=left))
        self._used = fit.cards
        return Fit(fit.cards, (*told, *fit.notes))

    def find_failure(self, mark: str) -> str | None:
        """Read what the stages of a launch noted; give the sentence for a card that has failed since the last look."""
        try:
            lines = failed_cards_path(mark).read_text().splitlines()
        except OSError:
            return None
        known = len(self._failed)
        for line in lines:
            record = _read(line)
            if record is not None and record["uuid"] not in self._failed:
                self._failed[record["uuid"]] = f"{self._number(record['uuid'])}{record['name']} has failed"
        return list(self._failed.values())[-1] if len(self._failed) > known else None

    def _number(self, uuid: str) -> str:
        return next((f"GPU {card.index}, " for card in self._used if card.uuid == uuid), "")


def visible(cards: Collection[Card]) -> str:
    """Write CUDA_VISIBLE_DEVICES for a server of these cards. It counts them from 0."""
    return ",".join(card.uuid for card in cards)


def _read(line: str) -> dict[str, str] | None:
    """A line that was written whole; the last may be on its way."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and {"uuid", "name"} <= set(record) else None
