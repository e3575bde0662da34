"""What the driver's management library says, read from a stand-in of it; no card and no driver is needed."""

from dataclasses import replace

import pytest

from service.cards.driver import LIBRARY, ManagementLibrary, Seen, installed_driver
from service.cards.visibility import shown
from tests.service.cards.stand_in_driver import H200, L4, FakeLibrary


@pytest.fixture(autouse=True)
def every_card_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def look(library: FakeLibrary) -> Seen:
    return ManagementLibrary(lambda: library).look()


def test_cards_are_told_with_all_their_facts() -> None:
    library = FakeLibrary([H200, L4])
    assert look(library) == Seen("580.95.05", (13, 1), (H200, L4), "")
    assert not library.is_open
    assert str(look(library)) == "driver 580.95.05, CUDA up to 13.1"
    assert str(H200) == "NVIDIA H200 (compute capability 9.0)"


def test_what_is_refused_is_unknown() -> None:
    refused = ("nvmlDeviceGetCudaComputeCapability", "nvmlDeviceGetMemoryInfo", "nvmlSystemGetCudaDriverVersion_v2")
    seen = look(FakeLibrary(failing=dict.fromkeys(refused, 3)))
    assert seen == Seen("580.95.05", None, (replace(H200, capability=None, memory_bytes=None, free_bytes=None),))
    assert str(seen.cards[0]) == "NVIDIA H200"


def test_without_a_driver_the_look_says_so() -> None:
    def missing() -> None:
        raise OSError(LIBRARY)

    seen = ManagementLibrary(missing).look()
    assert (seen.version, seen.cards) == (None, ())
    assert str(seen) == "no NVIDIA driver is installed (libnvidia-ml.so.1 is not found)"


@pytest.mark.parametrize(
    ("function", "status", "reason"),
    [
        ("nvmlInit_v2", 18, "NVIDIA's driver does not answer (Driver/library version mismatch)"),
        ("nvmlDeviceGetCount_v2", 9, "the driver cannot count its cards (Driver Not Loaded)"),
    ],
)
def test_a_driver_that_does_not_answer_is_quoted(function: str, status: int, reason: str) -> None:
    seen = look(FakeLibrary(failing={function: status}))
    assert seen.cards == ()
    assert seen.reason == reason
    assert (seen.version is None) is (function == "nvmlInit_v2")


def test_a_card_that_is_lost_leaves_the_others() -> None:
    seen = look(FakeLibrary([H200, L4], lost=frozenset({0})))
    assert [card.name for card in seen.cards] == ["NVIDIA L4"]
    assert seen.cards[0].index == 0
    assert seen.reason == "card 0 does not answer (GPU is lost)"
    assert look(FakeLibrary([])).reason == "the driver has no card"


def test_what_cuda_hides_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    (card,) = look(FakeLibrary([H200, L4])).cards
    assert card == replace(L4, index=0)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert look(FakeLibrary([H200, L4])) == Seen("580.95.05", (13, 1), (), "CUDA_VISIBLE_DEVICES=-1 hides all 2")


@pytest.mark.parametrize(
    ("chosen", "places"),
    [
        (None, [0, 1, 2]),
        ("1", [1]),
        ("2,0", [2, 0]),
        ("GPU-1a, GPU-0", [1, 0]),
        ("0,7,1", [0]),
        ("0,0,1", [0]),
        ("", []),
        ("MIG-3f6e", [0, 1, 2]),
    ],
)
def test_cuda_reads_its_variable_so(chosen: str | None, places: list[int]) -> None:
    assert shown([("0", "GPU-0a"), ("1", "GPU-1a"), ("2", "GPU-2a")], chosen) == places


def test_a_look_at_this_machine_never_fails() -> None:
    seen = installed_driver().look()
    assert seen.cards or seen.reason
