"""Cards, drivers and builds of torch that do not fit: one sentence each, told apart by `problem`."""

from dataclasses import replace

import pytest

from auralsam2_client.errors import ConfigError
from service.cards.checks import (
    CardError,
    Need,
    Problem,
    check_card,
    check_driver,
    check_torch,
    fit_cards,
    lost_cards,
)
from service.cards.driver import Seen
from service.cards.torch_build import TorchBuild
from tests.service.cards.stand_in_driver import GIB, H200, L4, NO_DRIVER, SECOND_H200, StandInDriver, seeing

NEED = Need("NVIDIA H200", 90, 6 * GIB, (13, 0))


def refused(need: Need, seen: Seen) -> CardError:
    with pytest.raises(CardError) as caught:
        fit_cards(need, seen)
    assert isinstance(caught.value, ConfigError)
    return caught.value


def test_a_card_that_fits() -> None:
    assert fit_cards(NEED, seeing(H200, SECOND_H200)).cards == (H200, SECOND_H200)
    # Nothing is asked, or the driver does not say: nothing is refused.
    unknown = replace(H200, capability=None, free_bytes=None, memory_bytes=None)
    assert fit_cards(NEED, seeing(unknown, cuda=None)).cards == (unknown,)
    assert fit_cards(Need(), seeing(L4)).cards == (L4,)
    # The last byte counts.
    assert fit_cards(replace(NEED, memory_bytes=H200.free_bytes), seeing(H200)).notes == ()


def test_no_driver() -> None:
    error = refused(NEED, NO_DRIVER)
    assert error.problem is Problem.NO_DRIVER
    assert "no NVIDIA driver is installed (libnvidia-ml.so.1 is not found). Install NVIDIA's driver" in str(error)
    assert "--device cpu" in str(error)


@pytest.mark.parametrize(
    ("runs", "needs", "words"),
    [
        ((12, 8), (13, 0), "runs CUDA up to 12.8, and PyTorch is built for CUDA 13.0, which needs driver 580 or newer"),
        ((11, 4), (12, 8), "needs driver 525 or newer"),
        ((13, 0), (14, 0), "needs a newer driver"),
    ],
)
def test_a_driver_too_old(runs: tuple[int, int], needs: tuple[int, int], words: str) -> None:
    error = refused(replace(NEED, cuda=needs), seeing(H200, version="570.86.10", cuda=runs))
    assert error.problem is Problem.OLD_DRIVER
    assert str(error).startswith("the driver 570.86.10 ")
    assert words in str(error)


def test_a_newer_minor_version_of_cuda_runs_on_the_driver_of_its_major_one() -> None:
    check_driver(replace(NEED, cuda=(13, 4)), seeing(H200))
    check_driver(replace(NEED, cuda=(12, 8)), seeing(H200))


def test_no_card() -> None:
    error = refused(NEED, seeing(reason="CUDA_VISIBLE_DEVICES=-1 hides all 2"))
    assert error.problem is Problem.NO_CARD
    assert "CUDA_VISIBLE_DEVICES=-1 hides all 2" in str(error)


def test_another_card_than_the_builds() -> None:
    error = refused(NEED, seeing(L4))
    assert error.problem is Problem.OTHER_CARD
    assert str(error) == (
        "the build was made for NVIDIA H200 (compute capability 9.0), and GPU 1 is NVIDIA L4 (compute capability 8.9)."
        " Export it again on this card with --target cuda."
    )
    # One name and two kinds, or one kind and two names: neither is enough.
    for card in (replace(H200, capability=80), replace(H200, name="NVIDIA H100")):
        assert refused(NEED, seeing(card)).problem is Problem.OTHER_CARD
    check_card(replace(NEED, name=None), replace(H200, name="NVIDIA H100"))
    assert "made for compute capability 9.0, and" in str(refused(replace(NEED, name=None), seeing(L4)))
    assert "made for NVIDIA H200, and" in str(refused(replace(NEED, capability=None), seeing(L4)))


def test_too_little_memory_is_told_with_both_figures() -> None:
    error = refused(replace(NEED, memory_bytes=(130 << 30) + 1), seeing(H200))
    assert error.problem is Problem.MEMORY
    assert "GPU 0, NVIDIA H200, has 133120 MiB of 142336 free, and 133121 MiB are needed." in str(error)
    error = refused(NEED, seeing(replace(H200, free_bytes=1 << 20, memory_bytes=None)))
    assert "has 1 MiB free, and 6144 MiB are needed" in str(error)


def test_a_card_that_does_not_fit_stops_nobody_where_another_does() -> None:
    busy = replace(SECOND_H200, free_bytes=GIB)
    fit = fit_cards(NEED, seeing(L4, H200, busy))
    assert fit.cards == (H200,)
    assert len(fit.notes) == 2
    assert "GPU 1 is NVIDIA L4" in fit.notes[0]
    assert "1024 MiB of 142336 free" in fit.notes[1]


def test_a_card_that_disappears_is_told_and_the_others_go_on() -> None:
    driver = StandInDriver(seeing(H200, SECOND_H200))
    used = fit_cards(NEED, driver.look()).cards
    assert lost_cards(used, driver.look()) == ()
    # What is counted from zero moves up; a card is known by its UUID.
    driver.seen = seeing(replace(SECOND_H200, index=0), reason="card 0 does not answer (GPU is lost)")
    (error,) = lost_cards(used, driver.look())
    assert error.problem is Problem.LOST
    assert str(error) == (
        "GPU 0, NVIDIA H200, has disappeared (card 0 does not answer (GPU is lost)). The server goes on with GPU 1."
    )
    driver.seen = NO_DRIVER
    assert [error.problem for error in lost_cards(used, driver.look())] == [Problem.LOST] * 2
    assert "No other card is left" in str(lost_cards(used, driver.look())[1])
    assert driver.looks == 5


def test_a_cpu_build_of_torch_is_refused_with_the_way_out() -> None:
    assert check_torch(TorchBuild("2.13.0+cu130", (13, 0))) == (13, 0)
    cpu = TorchBuild("2.13.0+cpu", None)
    for torch, words in ((cpu, "PyTorch 2.13.0+cpu is a CPU build, and"), (None, "no PyTorch is installed, and")):
        with pytest.raises(CardError) as caught:
            check_torch(torch)
        assert caught.value.problem is Problem.CPU_TORCH
        assert str(caught.value).startswith(words)
        assert str(caught.value).endswith("make setup TORCH=cuda")
