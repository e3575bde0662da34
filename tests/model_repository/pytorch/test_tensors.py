"""Tensors on their way between the server and PyTorch, with stand-ins for a card."""

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tests.model_repository.conftest import Backend

CARD = torch.device("cuda", 1)
MODULE = "model_repository.stage_runtime.pytorch.tensors"


@pytest.fixture
def tensors(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    return importlib.import_module(MODULE)


class OnCard(torch.Tensor):
    """A tensor that says it lies on the second card, and goes there as one does: the copy is only begun."""

    device = CARD

    def contiguous(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        return self

    def to(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        return self


def test_a_tensor_is_exported_while_its_card_is_the_current_one(
    tensors: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    current = [torch.device("cuda", 0)]

    @contextmanager
    def device(chosen: torch.device) -> Iterator[None]:
        current.append(chosen)
        yield
        current.pop()

    class Exported(OnCard):
        def __dlpack__(self, **given: Any) -> torch.device:
            return current[-1]

    monkeypatch.setattr(torch.cuda, "device", device)
    monkeypatch.setattr(
        tensors.pb_utils, "Tensor", SimpleNamespace(from_dlpack=lambda name, capsule: capsule), raising=False
    )
    assert tensors.write_tensor("FEATURE", torch.zeros(2).as_subclass(Exported)) == CARD
    assert current == [torch.device("cuda", 0)]


def test_what_is_taken_to_a_card_has_arrived(tensors: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    waited = list[torch.device]()
    stream = SimpleNamespace(synchronize=lambda: waited.append(CARD))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    monkeypatch.setattr(tensors, "read_tensor", lambda tensor: torch.zeros(2).as_subclass(OnCard))
    tensors.take_tensor(object(), CARD)
    assert waited == [CARD]


def test_on_a_cpu_nothing_is_waited_for_and_the_copy_is_its_own(tensors: ModuleType) -> None:
    values = np.ones(2, np.float32)
    given = SimpleNamespace(is_cpu=lambda: True, as_numpy=lambda: values)
    taken = tensors.take_tensor(given, torch.device("cpu"))
    values[:] = 0
    assert taken.tolist() == [1, 1]


def test_the_stages_read_text_as_utf_8_though_the_server_sets_no_locale() -> None:
    """Inductor opens its templates without naming an encoding, and some hold other signs than ASCII."""
    code = "import locale, model_repository.stage_runtime.pytorch; print(locale.getpreferredencoding(False))"
    bare = {**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=bare)
    assert ended.stdout.strip() == "UTF-8"
