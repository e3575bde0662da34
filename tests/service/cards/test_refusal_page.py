"""The page for operators quotes refusals word for word, one for each problem."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from service.cards.checks import CardError, Need, Problem, check_torch, fit_cards, lost_cards
from service.cards.driver import Seen
from service.cards.torch_build import TorchBuild
from tests.conftest import REPOSITORY
from tests.pages import table_rows
from tests.service.cards.stand_in_driver import GIB, H200, L4, NO_DRIVER, SECOND_H200, seeing

NEED = Need("NVIDIA H200", 90, 6 * GIB, (13, 0))


def raise_lost() -> None:
    raise lost_cards((H200, SECOND_H200), seeing(SECOND_H200, reason="card 0 does not answer (GPU is lost)"))[0]


def fitting(seen: Seen) -> Callable[[], object]:
    return lambda: fit_cards(NEED, seen)


CASES: dict[Problem, Callable[[], object]] = {
    Problem.NO_DRIVER: fitting(NO_DRIVER),
    Problem.NO_CARD: fitting(seeing(reason="CUDA_VISIBLE_DEVICES=-1 hides all 1")),
    Problem.OLD_DRIVER: fitting(seeing(H200, version="570.86.10", cuda=(12, 8))),
    Problem.CPU_TORCH: lambda: check_torch(TorchBuild("2.13.0+cpu", None)),
    Problem.OTHER_CARD: fitting(seeing(L4)),
    Problem.MEMORY: fitting(seeing(replace(H200, free_bytes=GIB))),
    Problem.LOST: raise_lost,
}


def test_every_refusal_is_quoted() -> None:
    rows = table_rows((REPOSITORY / "docs" / "gpu.md").read_text())
    quoted = [cells[1] for heads, cells in rows if heads[0] == "reason"]
    said = []
    for problem, refuse in CASES.items():
        with pytest.raises(CardError) as caught:
            refuse()
        assert caught.value.problem is problem
        said.append(str(caught.value))
    assert set(CASES) == set(Problem)
    assert quoted == said
