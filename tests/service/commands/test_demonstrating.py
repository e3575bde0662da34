"""The demo on the card where it can, on the CPU where export or server refuses the card."""

from pathlib import Path

import numpy as np
import pytest

from auralsam2_client.errors import ConfigError, ServerFault
from service.cards.demo_target import target_for_demo
from service.cards.torch_build import TorchBuild
from service.commands import demonstrating
from service.commands.demo import DemoResult
from tests.service.cards.stand_in_driver import H200, NO_DRIVER, StandInDriver, seeing

ON_CARD = target_for_demo(seeing(H200), TorchBuild("2.13.0+cu130", (13, 0)))
ON_CPU = target_for_demo(NO_DRIVER, None)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(demonstrating, "say", lines.append)
    return lines


def result() -> DemoResult:
    return DemoResult("weights", "float16", {}, 100.0, 5, 1.0, [], np.zeros((5, 2, 2), bool))


def test_it_runs_on_the_card(said: list[str]) -> None:
    targets: list[str] = []

    def run(target: str) -> DemoResult:
        targets.append(target)
        return result()

    place, found = demonstrating.run_where_it_can(ON_CARD, StandInDriver(seeing(H200)), run)
    assert targets == ["cuda"]
    assert place is ON_CARD
    assert found.frames_per_second == 50.0
    assert said == [ON_CARD.opening]


def test_a_refusal_turns_it_to_the_cpu_in_one_line(said: list[str]) -> None:
    targets: list[str] = []

    def run(target: str) -> DemoResult:
        targets.append(target)
        if target == "cuda":
            raise ConfigError("the card has 1 MiB free.")
        return result()

    place, _ = demonstrating.run_where_it_can(ON_CARD, StandInDriver(seeing(H200)), run)
    assert targets == ["cuda", "cpu"]
    assert place.target == "cpu"
    assert said == [ON_CARD.opening, "on the CPU: the card is not used, since the card has 1 MiB free."]


def test_a_card_that_disappears_turns_it_to_the_cpu(said: list[str]) -> None:
    driver = StandInDriver(seeing(H200))

    def run(target: str) -> DemoResult:
        if target == "cuda":
            driver.seen = seeing(reason="card 0 does not answer (GPU is lost)")
            raise ServerFault("the stage died")
        return result()

    place, _ = demonstrating.run_where_it_can(ON_CARD, driver, run)
    assert place.target == "cpu"
    assert "GPU 0, NVIDIA H200, has disappeared (card 0 does not answer (GPU is lost))" in said[1]


@pytest.mark.parametrize("error", [ConfigError("no build"), ServerFault("broken")])
def test_what_fails_otherwise_is_not_hidden(said: list[str], error: Exception) -> None:
    def run(target: str) -> DemoResult:
        raise error

    with pytest.raises(type(error)):
        demonstrating.run_where_it_can(ON_CPU, StandInDriver(NO_DRIVER), run)
    assert said == []
    if isinstance(error, ServerFault):
        with pytest.raises(ServerFault):
            demonstrating.run_where_it_can(ON_CARD, StandInDriver(seeing(H200)), run)


def test_each_target_has_a_build_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[Path, dict[str, object]]] = []

    def make_build(folder: Path, **settings: object) -> Path:
        made.append((folder, settings))
        return folder

    monkeypatch.setattr(demonstrating, "make_build", make_build)
    monkeypatch.setattr(demonstrating, "_is_current", lambda build: False)
    folders = [demonstrating._build_for(target) for target in ("cpu", "cuda")]
    assert folders == [Path("build/compact-256-t5"), Path("build/compact-256-t5-cuda")]
    assert [settings for _, settings in made] == [{"preset": "compact"}, {"preset": "compact", "target": "cuda"}]
    monkeypatch.setattr(demonstrating, "_is_current", lambda build: True)
    assert [demonstrating._build_for(target) for target in ("cpu", "cuda")] == folders
    assert len(made) == 2
