"""Which of the server's lines a person sees: what is wrong here, and not what is so on every machine without a GPU."""

import pytest

from service.logs.events import ERROR, INFO, WARNING
from service.logs.server_lines import ServerLines

# As the embedded server says them on a CPU.
START = """\
W1127 08:33:03.101201 4711 pinned_memory_manager.cc:273] "Unable to allocate pinned system memory, pinned memory pool \
will not be available: CUDA driver version is insufficient for CUDA runtime version"
I1127 08:33:03.101301 4711 cuda_memory_manager.cc:117] "CUDA memory pool disabled"
E1127 08:33:03.101401 4711 server.cc:241] "CudaDriverHelper has not been initialized."
I1127 08:33:03.201401 4711 server.cc:604]
+------------------+------+
| Repository Agent | Path |
+------------------+------+
W1127 08:33:03.301401 4711 metrics.cc:798] "Cannot get CUDA device count, GPU metrics will not be available"
I1127 08:33:04.301401 4711 grpc_server.cc:2558] "Started GRPCInferenceService at 127.0.0.1:8001\"""".splitlines()
FAULT = """\
E1127 08:33:05.301401 4711 model_lifecycle.cc:654] "failed to load 'hiera' version 1: Internal: ModuleNotFoundError"
At:
  models/hiera/1/model.py(1): <module>
I1127 08:33:05.401401 4711 model_lifecycle.cc:789] "failed to load 'hiera'"
terminate called after throwing an instance of 'std::system_error'""".splitlines()


def seen(lines: list[str], *, needs_gpu: bool) -> list[str]:
    of_server = ServerLines(needs_gpu=needs_gpu)
    return [event.message for event in map(of_server.event, lines) if not event.quiet]


def test_a_start_on_a_cpu_shows_nothing() -> None:
    assert seen(START, needs_gpu=False) == []


def test_where_a_gpu_is_needed_what_speaks_of_it_is_shown() -> None:
    assert seen(START, needs_gpu=True) == [START[0], START[2], START[7]]


@pytest.mark.parametrize("needs_gpu", [True, False])
def test_a_fault_is_shown_with_what_follows_it(needs_gpu: bool) -> None:
    assert seen(FAULT, needs_gpu=needs_gpu) == [*FAULT[:3], FAULT[4]]


def test_levels_are_those_of_the_server() -> None:
    of_server = ServerLines(needs_gpu=False)
    assert [of_server.event(line).level for line in START[:3]] == [WARNING, INFO, ERROR]
    assert of_server.event("  of the line before").level == ERROR
    assert of_server.event("ValueError: of a stage's own Python").level == ERROR
