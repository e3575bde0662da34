"""Graphs are exported by workers, whose errors come back as they were."""

import pickle

import pytest

from export.errors import ExportError, ParityError


@pytest.mark.parametrize("error", [ExportError("a"), ParityError("b")])
def test_errors_survive_the_way_back_from_a_worker(error: ExportError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
