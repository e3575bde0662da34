"""What is said of a card, from what nvidia-smi answers, and its own speeds."""

import torch

from loadtests.gpu.measuring.card import QUERY, describe, measure_peaks, parse_smi
from loadtests.gpu.measuring.timing import Operation


def test_nvidia_smi_is_read_by_what_was_asked() -> None:
    line = "NVIDIA H200, 580.159.03, 143771, 700.00, 345, 1980, 3201, 31\n"
    found = parse_smi(line, QUERY)
    assert found["name"] == "NVIDIA H200"
    assert found["clocks.max.sm"] == "1980"
    for text in ("", "No devices were found\n", "a, b\n"):
        assert parse_smi(text, QUERY) == {}


def test_without_a_card_that_is_said() -> None:
    found = describe("cpu")
    assert found["card"].startswith("no card")
    assert found["versions"]["torch"] == torch.__version__


def test_speeds_are_those_of_the_fastest_call() -> None:
    took_ms = [3.0, 2.0, *[4.0] * 8, 8.0, *[5.0] * 9]

    def timer(operation: Operation) -> float:
        operation()
        return took_ms.pop(0)

    found = measure_peaks(timer, "cpu", torch.float32, sizes=(8, 100))
    assert found == {"gemm_side": 8, "gemm_flop_per_s": 2 * 8**3 / 2e-3, "copy_bytes_per_s": 2 * 100 / 5e-3}
