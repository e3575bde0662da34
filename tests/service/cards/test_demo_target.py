"""Where the demo runs, by what a stand-in driver shows, and what it says of it."""

from service.cards.demo_target import DemoTarget, target_for_demo
from service.cards.torch_build import TorchBuild
from tests.service.cards.stand_in_driver import H200, NO_DRIVER, seeing

CUDA_TORCH = TorchBuild("2.13.0+cu130", (13, 0))


def test_a_card_is_used_and_named() -> None:
    place = target_for_demo(seeing(H200), CUDA_TORCH)
    assert place.target == "cuda"
    assert place.opening == "on NVIDIA H200 (compute capability 9.0), driver 580.95.05, CUDA up to 13.0"
    assert place.closing("float16", 61.04) == (
        "served on NVIDIA H200 (compute capability 9.0), driver 580.95.05, CUDA up to 13.0, in float16:"
        " 61.0 frames a second through gRPC, one caller"
    )


def test_without_a_driver_nothing_is_said() -> None:
    place = target_for_demo(NO_DRIVER, TorchBuild("2.13.0+cpu", None))
    assert place == DemoTarget("cpu", "")
    assert (place.opening, place.closing("float32", 19.2)) == ("", "")


def test_a_card_that_cannot_be_used_is_told_with_the_reason() -> None:
    cases = (
        (seeing(H200), TorchBuild("2.13.0+cpu", None), "PyTorch 2.13.0+cpu is a CPU build"),
        (seeing(H200), None, "no PyTorch is installed"),
        (seeing(H200, version="570.86.10", cuda=(12, 8)), CUDA_TORCH, "the driver 570.86.10 runs CUDA up to 12.8"),
        (seeing(reason="CUDA_VISIBLE_DEVICES= hides all 1"), CUDA_TORCH, "needs an NVIDIA card, and CUDA_VISIBLE"),
    )
    for seen, torch, words in cases:
        place = target_for_demo(seen, torch)
        assert place.target == "cpu"
        assert place.opening.startswith("on the CPU: the card is not used, since ")
        assert words in place.opening
        assert "\n" not in place.opening
