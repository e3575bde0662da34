"""Training needs gradients; the other tests of the network run without."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def _with_grad(_no_grad: None) -> Iterator[None]:
    with torch.enable_grad():
        yield
