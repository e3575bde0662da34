"""Which files of tests are begun first: those that take longest, so that at the end no worker is left alone with one.

What two of them need made, such as a build, the first makes while the other would wait: they stand apart.
"""

from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
LONGEST = (
    "auralsam2/model/test_parity.py",
    "export/gates/test_golden_graphs.py",
    "service/test_served_network.py",
    "auralsam2/training/run/test_trainer.py",
    "kernels/fusion/test_triton_kernels.py",
    "loadtests/test_monitored.py",
    "export/graphs/test_tensorrt_support.py",
    "service/test_prompted_service.py",
    "service/test_served_sessions.py",
    "kernels/test_report.py",
    "export/engines/test_filling.py",
    "export/engines/test_builds_with_engines.py",
    "loadtests/test_memory.py",
    "export/engines/test_rtx_engines.py",
    "kernels/memory_attention/test_triton_kernels.py",
    "auralsam2/training/start/test_pretraining.py",
    "loadtests/cpu/test_bench.py",
    "kernels/fusion/test_full_map.py",
    "kernels/test_compilation.py",
    "auralsam2/model/test_shipped.py",
)
"""Below tests/, in order; `make test` prints the slowest tests at its end."""


def longest_first(items: list[pytest.Item]) -> None:
    """Sort `items` in place, by file; tests of a file keep their order."""
    places = {TESTS / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))
