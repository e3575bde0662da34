"""A start that changed nothing is ready without the golden clip; whatever changed, the clip is asked for again."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from auralsam2_client.errors import ConfigError
from service.builds.compiled_models import CheckedModels, record_compiled_models
from service.monitoring.metrics import fetch
from service.server.config import ServerConfig
from service.server.launch_plan import LaunchPlan, plan_launch
from service.server.launcher import Launcher
from service.server.proof import forget, keep, recall
from tests.service.supervision.test_supervisor import Supervised
from tests.service.toy import build_folder as toy
from tests.service.toy.running import eventually, toy_config

COMPILED = "decoder.blob"


@pytest.fixture
def build(tmp_path: Path) -> Path:
    build = toy.write(tmp_path / "build")
    (build / "cache" / COMPILED).write_bytes(b"compiled")
    record_compiled_models(build / "cache", CheckedModels())
    return build


@pytest.fixture
def server_env(tmp_path: Path) -> Path:
    """An environment of one package: only its metadata is looked at."""
    (tmp_path / "env" / "lib" / "python3.11" / "site-packages" / "numpy-1.26.4.dist-info").mkdir(parents=True)
    return tmp_path / "env"


@pytest.fixture
def plan(build: Path, server_env: Path) -> LaunchPlan:
    plan = plan_launch(toy_config(build))
    return replace(plan, config=replace(plan.config, server_env=server_env))


def proofs(build: Path) -> list[Path]:
    return list((build / "cache").glob("proof-*"))


def test_what_was_proven_is_recalled(plan: LaunchPlan) -> None:
    assert recall(plan) is None
    keep(plan, 43.5)
    found = recall(plan)
    assert found is not None
    assert found.golden_duration_s == 43.5
    forget(plan)
    assert recall(plan) is None
    forget(plan)


def upgrade(plan: LaunchPlan) -> None:
    (old,) = plan.config.server_env.rglob("numpy-*.dist-info")
    old.rename(old.with_name("numpy-2.2.0.dist-info"))


def alter(name: str) -> Callable[[LaunchPlan], None]:
    def change(plan: LaunchPlan) -> None:
        with (plan.config.build / name).open("ab") as file:
            file.write(b"\n")

    return change


CHANGES: dict[str, Callable[[LaunchPlan], None]] = {
    "another numpy": upgrade,
    "another build": alter("manifest.json"),
    "another golden clip": alter("golden.npz"),
    "a compiled model altered": alter(f"cache/{COMPILED}"),
    "a compiled model gone": lambda plan: (plan.config.cache / COMPILED).unlink(),
    "the note itself damaged": lambda plan: proofs(plan.config.build)[0].write_text("{"),
    "the note of another form": lambda plan: proofs(plan.config.build)[0].write_text("[]"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_changed_it_is_to_be_proven_again(change: str, plan: LaunchPlan) -> None:
    keep(plan, 1.0)
    assert recall(plan) is not None
    CHANGES[change](plan)
    assert recall(plan) is None


@pytest.mark.parametrize("change", [{"num_threads": 7}, {"model": "other"}])
def test_another_setting_that_the_answer_may_depend_on(change: dict[str, object], plan: LaunchPlan) -> None:
    keep(plan, 1.0)
    assert recall(replace(plan, config=replace(plan.config, **change))) is None  # type: ignore[arg-type]


def test_another_version_of_an_installed_server(plan: LaunchPlan) -> None:
    served = [replace(plan, notes=(f"serving with Triton Inference Server {version} of /opt",)) for version in "12"]
    keep(served[0], 1.0)
    assert recall(served[0]) is not None
    assert recall(served[1]) is None


def test_another_cpu(plan: LaunchPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(plan, 1.0)
    monkeypatch.setattr("service.server.proof._cpu", lambda: ["flags : avx2 avx512f"])
    assert recall(plan) is None


def test_what_other_builds_compile_beside_it_is_no_matter(plan: LaunchPlan) -> None:
    keep(plan, 1.0)
    (plan.config.cache / "other.blob").write_bytes(b"of another build")
    assert recall(plan) is not None


def test_without_compiled_models_nothing_is_kept(plan: LaunchPlan) -> None:
    (plan.config.cache / COMPILED).unlink()
    keep(plan, 1.0)
    assert proofs(plan.config.build) == []


def test_without_a_cache_nothing_fails(plan: LaunchPlan) -> None:
    shutil.rmtree(plan.config.cache)
    keep(plan, 1.0)
    forget(plan)
    assert recall(plan) is None


def started(config: ServerConfig, prove: bool = False) -> tuple[float, int]:
    """Start and stop: the golden clip's seconds as the launcher knows them, and how many clips were answered."""
    with Launcher(config, sink=lambda line: None, prove=prove) as launcher:
        duration_s = launcher.golden_duration_s
        if launcher.first_digest:
            eventually(lambda: fetch(config.metrics_url)["auralsam2"].success)
        return duration_s, fetch(config.metrics_url)["auralsam2"].success


def test_a_second_start_needs_no_golden_clip_unless_it_is_asked_to(build: Path) -> None:
    first_s, answered = started(toy_config(build))
    assert answered == 1
    assert len(proofs(build)) == 1
    assert started(toy_config(build)) == (first_s, 0)
    assert started(toy_config(build), prove=True)[1] == 1
    assert started(toy_config(build, golden_at_start="always"))[1] == 1


def test_a_wrong_answer_takes_the_proof_away(build: Path) -> None:
    started(toy_config(build))
    (build / "cache" / "wrong").touch()
    with pytest.raises(ConfigError, match="Golden clip by audio: MASK_LOGITS"):
        started(toy_config(build), prove=True)
    assert proofs(build) == []


def test_after_a_start_on_trust_the_clip_follows_and_a_wrong_answer_is_a_fault(build: Path) -> None:
    started(toy_config(build))
    wrong = build / "cache" / "wrong"
    wrong.touch()
    supervised = Supervised(build)
    eventually(lambda: supervised.supervisor.counts["answer"])
    wrong.unlink()
    eventually(lambda: supervised.num_restarts == 1 and supervised.supervisor.ready)
    assert supervised.launcher.first_digest, "after a fault the clip is asked for before the server says ready"
    assert supervised.stop() == 0
    assert any("an earlier start has shown its answer" in line for line in supervised.lines)
    assert any("Golden clip by audio: MASK_LOGITS" in line for line in supervised.lines)


def test_after_a_start_on_trust_the_first_answer_is_the_one_to_keep(build: Path) -> None:
    started(toy_config(build))
    supervised = Supervised(build)
    launcher = supervised.launcher
    assert not launcher.first_digest
    eventually(lambda: launcher.first_digest)
    (build / "cache" / "flip").touch()
    eventually(lambda: supervised.supervisor.counts["answer"])
    assert supervised.stop() in (0, None)
