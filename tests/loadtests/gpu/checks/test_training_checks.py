"""The checks of training, made on the CPU: that they hold, and that they can fail."""

import pytest
from torch import Tensor

from auralsam2.training.run.learner import Learner
from auralsam2.training.start import starting
from loadtests.gpu.checks.check import Check, Place
from loadtests.gpu.checks.training_checks import training_checks


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starting, "NUM_CLIPS", 2)


@pytest.mark.parametrize("check", training_checks(), ids=lambda check: check.name)
def test_each_holds_on_the_cpu(check: Check, place: Place) -> None:
    check.run(place)


def test_other_losses_are_a_failure(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    accumulate = Learner.accumulate

    def other(self: Learner, numbers: list[int], share: float) -> Tensor:
        losses = accumulate(self, numbers, share)
        return losses * 1.2 if self.settings.precision == "bfloat16" else losses

    monkeypatch.setattr(Learner, "accumulate", other)
    (check,) = (c for c in training_checks() if c.name.startswith("project, bfloat16"))
    with pytest.raises(AssertionError, match="on the CPU"):
        check.run(place)
