"""The cards of a service over its restarts: one that has failed is not used again."""

from pathlib import Path

import pytest

from auralsam2_client.contract import failed_cards_path
from service.cards import in_use
from service.cards.checks import CardError, Need, Problem
from service.cards.in_use import CardsInUse, visible
from service.cards.torch_build import TorchBuild
from tests.service.cards.stand_in_driver import GIB, H200, L4, NO_DRIVER, SECOND_H200, StandInDriver, seeing

TORCH = TorchBuild("2.13.0", (13, 0))
NEED = Need("NVIDIA H200", 90, 6 * GIB)
MARK = "auralsam2_1_ab_"


@pytest.fixture
def note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / failed_cards_path(MARK).name
    monkeypatch.setattr(in_use, "failed_cards_path", lambda mark: tmp_path / failed_cards_path(mark).name)
    return path


def test_a_card_that_failed_is_taken_out_and_said(note: Path) -> None:
    cards = CardsInUse(StandInDriver(seeing(H200, SECOND_H200, L4)), TORCH)
    fit = cards.choose(NEED)
    assert fit.cards == (H200, SECOND_H200)
    assert visible(fit.cards) == "GPU-aaaaaaaa,GPU-bbbbbbbb"
    assert cards.find_failure(MARK) is None
    note.write_text('{"uuid": "GPU-aaaaaaaa", "name": "NVIDIA H200", "words": "CUDA error"}\n{"uuid": "GPU-')
    assert cards.find_failure(MARK) == "GPU 0, NVIDIA H200 has failed"
    assert cards.find_failure(MARK) is None, "told once"
    fit = cards.choose(NEED)
    assert fit.cards == cards.used == (SECOND_H200,)
    assert fit.notes[0] == "GPU 0, NVIDIA H200 has failed; it is taken out"
    note.write_text('{"uuid": "GPU-bbbbbbbb", "name": "NVIDIA H200", "words": "CUDA error"}\n')
    assert cards.find_failure(MARK) == "GPU 1, NVIDIA H200 has failed"
    with pytest.raises(CardError) as other:
        cards.choose(NEED)
    assert other.value.problem == Problem.OTHER_CARD, "the L4 is left, and is another card than the build's"


def test_where_no_other_is_left_a_card_that_failed_is_tried_again(note: Path) -> None:
    cards = CardsInUse(StandInDriver(seeing(H200)), TORCH)
    cards.choose(NEED)
    note.write_text('{"uuid": "GPU-aaaaaaaa", "name": "NVIDIA H200", "words": "CUDA error"}\n')
    cards.find_failure(MARK)
    fit = cards.choose(NEED)
    assert fit.cards == (H200,)
    assert fit.notes == ("GPU 0, NVIDIA H200 has failed, and no other card is left: it is tried again",)
    assert cards.choose(NEED).notes == (), "what is behind is not told again"


@pytest.mark.parametrize("text", ["", "[]\n", '{"uuid": 1}\n', "no JSON\n"])
def test_a_note_that_is_none_is_passed_over(text: str, note: Path) -> None:
    note.write_text(text)
    assert CardsInUse(StandInDriver(seeing(H200)), TORCH).find_failure(MARK) is None


@pytest.mark.parametrize(
    ("driver", "torch", "problem"),
    [
        (StandInDriver(NO_DRIVER), TORCH, Problem.NO_DRIVER),
        (StandInDriver(seeing(H200, version="570.86.10", cuda=(12, 8))), TORCH, Problem.OLD_DRIVER),
        (StandInDriver(seeing(reason="the driver has no card")), TORCH, Problem.NO_CARD),
        (StandInDriver(seeing(L4)), TORCH, Problem.OTHER_CARD),
        (StandInDriver(seeing(H200)), TorchBuild("2.13.0+cpu", None), Problem.CPU_TORCH),
    ],
)
def test_what_does_not_fit_is_one_sentence(driver: StandInDriver, torch: TorchBuild, problem: Problem) -> None:
    with pytest.raises(CardError) as refused:
        CardsInUse(driver, torch).choose(NEED)
    assert refused.value.problem == problem
    assert "\n" not in str(refused.value)
