"""A build for cards on the real server, with a stand-in for the driver: what is refused, and a card that fails."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from auralsam2_client.contract import failed_cards_path
from service.cards.checks import CardError, Problem
from service.cards.in_use import CardsInUse
from service.cards.torch_build import TorchBuild
from service.monitoring.metrics import fetch
from service.server.launch_plan import COMPILING_TIMEOUT_S, compiled_code, plan_launch
from service.server.launcher import Launcher
from tests.service.cards.stand_in_driver import GIB, H200, L4, NO_DRIVER, SECOND_H200, StandInDriver, seeing
from tests.service.supervision.test_supervisor import Supervised
from tests.service.toy import build_folder as toy
from tests.service.toy.running import eventually, toy_config

TORCH = TorchBuild("2.13.0", (13, 0))
SMALL_CARD = replace(H200, free_bytes=GIB)


@pytest.fixture
def build(tmp_path: Path) -> Path:
    """The toy build, as if it had been compared on an H200; its stages compute with numpy."""
    build = toy.write(tmp_path / "build")
    card = {"name": "NVIDIA H200", "capability": 90, "memory_bytes": 6 * GIB}
    toy.write_manifest(build, target="cuda", device="cuda", card=card)
    return build


def visible_devices(pid: int) -> str:
    found: str = psutil.Process(pid).environ()["CUDA_VISIBLE_DEVICES"]
    return found


@pytest.fixture
def supervised(build: Path) -> Iterator[Supervised]:
    supervised = Supervised(build, CardsInUse(StandInDriver(seeing(H200, SECOND_H200, L4)), TORCH))
    yield supervised
    assert supervised.stop() == 0


def test_a_card_that_fails_is_taken_out_and_the_server_lives_on(supervised: Supervised) -> None:
    first = supervised.launcher
    assert visible_devices(first.pid or 0) == "GPU-aaaaaaaa,GPU-bbbbbbbb"
    assert any("GPU 1 is NVIDIA L4" in line for line in supervised.lines), "a card that does not fit is named"
    note = {"uuid": "GPU-aaaaaaaa", "name": "NVIDIA H200", "words": "CUDA error: unspecified launch failure"}
    failed_cards_path(first.mark).write_text(json.dumps(note) + "\n")
    eventually(lambda: supervised.num_restarts == 1 and supervised.supervisor.ready)
    assert visible_devices(supervised.launcher.pid or 0) == "GPU-bbbbbbbb"
    assert any("GPU 0, NVIDIA H200 has failed" in line for line in supervised.lines)
    assert any("GPU 0, NVIDIA H200 has failed; it is taken out" in line for line in supervised.lines)
    assert not failed_cards_path(first.mark).exists(), "what a launch leaves is removed with it"
    eventually(lambda: fetch(supervised.launcher.config.metrics_url)["auralsam2"].success)


@pytest.mark.parametrize(
    ("driver", "problem"),
    [
        (StandInDriver(NO_DRIVER), Problem.NO_DRIVER),
        (StandInDriver(seeing(H200, version="570.86.10", cuda=(12, 8))), Problem.OLD_DRIVER),
        (StandInDriver(seeing(L4)), Problem.OTHER_CARD),
        (StandInDriver(seeing(SMALL_CARD)), Problem.MEMORY),
        (StandInDriver(seeing(reason="the driver has no card")), Problem.NO_CARD),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_starts(
    driver: StandInDriver, problem: Problem, build: Path
) -> None:
    launcher = Launcher(toy_config(build), sink=lambda line: None, cards=CardsInUse(driver, TORCH))
    with pytest.raises(CardError) as refused:
        launcher.start()
    assert refused.value.problem == problem
    assert "\n" not in str(refused.value)
    assert launcher.pid is None


def test_the_command_says_it_in_one_line(build: Path) -> None:
    """On a machine without a card, or with a CPU build of torch: exit code 3, no traceback."""
    ended = subprocess.run(
        [sys.executable, "-m", "service.commands.cli", "serve", "--build", str(build)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "COLUMNS": "1000", "CUDA_VISIBLE_DEVICES": "-1"},
    )
    assert ended.returncode == 3
    assert "Traceback" not in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1, ended.stderr


def test_a_start_that_may_compile_may_take_longer(build: Path) -> None:
    plan = plan_launch(toy_config(build), CardsInUse(StandInDriver(seeing(H200)), TORCH))
    # Of another card, or of another PyTorch: nobody knows before the stages have looked.
    (build / "cache" / "0123.inductor").touch()
    assert plan.ready_timeout_s == COMPILING_TIMEOUT_S > plan.config.ready_timeout_s


def test_what_is_compiled_stays_with_the_build(build: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_launch(toy_config(build), CardsInUse(StandInDriver(seeing(H200)), TORCH))
    names = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")
    _, variables = plan.command(tmp_path / "run", "auralsam2_1_ab_")
    assert all(Path(variables[name]).parent == plan.config.cache for name in names)
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert compiled_code(plan.config.cache) == {}
