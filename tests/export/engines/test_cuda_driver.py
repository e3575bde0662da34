"""The CUDA driver, through a stand-in: what card is there, and buffers that say how much is missing."""

import numpy as np
import pytest

from export.engines.cuda_driver import Card, CudaMemory, current_card, load_driver
from export.errors import ExportError
from tests.export.engines.engine_stand_ins import ADA, FakeDriver


def test_the_card_by_name_and_capability() -> None:
    assert current_card(FakeDriver()) == ADA
    blackwell = Card("NVIDIA RTX 5090", 120)
    assert current_card(FakeDriver(blackwell)) == blackwell


def test_a_driver_without_a_card() -> None:
    assert current_card(FakeDriver(card=None)) is None
    with pytest.raises(ExportError, match=r"driver refuses cuInit \(error 100\)"):
        CudaMemory(FakeDriver(card=None))


def test_a_machine_without_a_driver() -> None:
    if load_driver() is not None:
        pytest.skip("this machine has a CUDA driver")
    assert current_card() is None
    with pytest.raises(ExportError, match="this machine has no CUDA driver"):
        CudaMemory(load_driver())


def test_what_goes_up_comes_down_and_is_freed() -> None:
    driver = FakeDriver()
    memory = CudaMemory(driver)
    array = np.arange(24, dtype=np.float32).reshape(4, 6)
    address = memory.allocate(array.nbytes)
    # Not contiguous: it is laid out before it goes up.
    memory.upload(address, array.T)
    back = np.empty((6, 4), np.float32)
    memory.download(address, back)
    np.testing.assert_array_equal(back, array.T)
    assert memory.free_bytes() == ((1 << 30) - array.nbytes, 1 << 30)
    memory.close()
    assert driver.buffers == {}


def test_too_little_memory_is_told_in_figures() -> None:
    memory = CudaMemory(FakeDriver(total=1000))
    memory.allocate(600)
    with pytest.raises(ExportError, match="not enough GPU memory: 500 bytes are needed, 400 of 1000 are free"):
        memory.allocate(500)


@pytest.mark.parametrize("function", ["cuMemAlloc_v2", "cuMemcpyHtoD_v2", "cuCtxSynchronize", "cuMemFree_v2"])
def test_what_the_driver_refuses_is_named(function: str) -> None:
    driver = FakeDriver()
    driver.failing[function] = 700
    with pytest.raises(ExportError, match=rf"{function} \(error 700\)"):
        use(CudaMemory(driver))


def use(memory: CudaMemory) -> None:
    memory.upload(memory.allocate(4), np.zeros(1, np.float32))
    memory.synchronize()
    memory.close()
