"""What the stages count and refuse, under the fake of the server's python backend."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from auralsam2_client.contract import IN_FLIGHT_METRIC, LAUNCH_VARIABLE, SECRET_VARIABLE, closing_path
from model_repository.stage_runtime.admission.clip_table import GRACE_S
from model_repository.stage_runtime.admission.passage import LIMIT_VARIABLE, Role
from model_repository.stage_runtime.admission.telemetry import FAMILIES, SECONDS_BUCKETS, Telemetry
from model_repository.stage_runtime.engine import EngineError, file_sha256
from service.logs.events import Event
from service.logs.request_pipe import RequestPipe

SECRET = "5ec12e7"
CONFIG: dict[str, Any] = {
    "input": [{"name": "X", "data_type": "TYPE_FP32", "dims": ["2", "3"]}],
    "output": [
        {"name": "TICKET", "data_type": "TYPE_UINT8", "dims": [16]},
        {"name": "Y", "data_type": "TYPE_FP32", "dims": [2, 3]},
        {"name": "Z", "data_type": "TYPE_FP32", "dims": [2]},
    ],
}


@pytest.fixture
def stage(
    adapter: ModuleType, arithmetic_engine: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Any]:
    """A stage of the chain by name, with parameters of its config.pbtxt; stages of one test share one server."""
    monkeypatch.setattr(adapter, "load_engine", lambda *a, **options: arithmetic_engine(2))

    def make(name: str, **parameters: str) -> Any:
        file = tmp_path / name / "1" / "model.onnx"
        file.parent.mkdir(parents=True)
        file.write_bytes(b"a graph")
        given = {"engine": "openvino", "precision": "float32", "frames_per_call": "2", "preset": "compact"}
        given |= {"sha256": file_sha256(file), **parameters}
        ticket = {"name": "TICKET", "data_type": "TYPE_UINT8", "dims": ["16"], "optional": True}
        inputs = [*CONFIG["input"], *([] if "max_clips_in_flight" in parameters else [ticket])]
        config = CONFIG | {
            "input": inputs,
            "parameters": {key: {"string_value": value} for key, value in given.items()},
        }
        model = adapter.StageModel()
        model.initialize(
            {
                "model_name": name,
                "model_version": "1",
                "model_repository": str(tmp_path / name),
                "model_config": json.dumps(config),
            }
        )
        return model

    return make


def ask(backend: Any, model: Any, ticket: Any = None, value: float = 1.0, **more: Any) -> Any:
    given = {"X": np.full((2, 3), value, np.float32)} | ({} if ticket is None else {"TICKET": ticket})
    (response,) = model.execute([backend.request(given, ["Y", "TICKET"], **more)])
    return response


def ticket_of(response: Any) -> Any:
    assert response.error is None, response.error.message
    return response.arrays()["TICKET"]


def test_frames_are_counted_once_in_the_last_stage(
    stage: Callable[..., Any], backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of callers, one of whom calls itself what the service calls itself, and apart from them the service's own."""
    monkeypatch.setenv(SECRET_VARIABLE, SECRET)
    first, last = stage("vggish", max_clips_in_flight="8"), stage("sam2_decoder", ends_clip="true")
    for own, name in (("", "client-1"), ("", "golden-2"), (SECRET, "golden-3")):
        said: dict[str, Any] = {"id": name, "said": {"auralsam2-secret": own}}
        assert ask(backend, last, ticket_of(ask(backend, first, **said)), **said).error is None
    labels = {"model": "compact", "precision": "float32", "prompts": "audio"}
    assert backend.written("auralsam2_frames_total", **labels) == [2, 2]
    assert backend.written("auralsam2_clips_total", **labels) == [1, 1]
    assert backend.written("auralsam2_golden_clips_total") == [1]
    assert len(backend.written("auralsam2_clip_duration_seconds")) == 2
    for name in ("vggish", "sam2_decoder"):
        assert len(backend.written("auralsam2_stage_duration_seconds", stage=name)) == 3
    assert backend.written("auralsam2_clips_in_flight") == [0]
    assert backend.written("auralsam2_clips_in_flight_limit") == [8]


def test_a_clip_is_counted_by_what_the_answer_was_made_from(
    stage: Callable[..., Any], backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, last = stage("vggish", max_clips_in_flight="8"), stage("sam2_decoder", ends_clip="true")
    by_sound = last._logic
    mode = np.array([b"points+box"], np.object_)
    monkeypatch.setattr(last, "_logic", lambda inputs, optional: by_sound(inputs, optional) | {"PROMPT_MODE": mode})
    assert ask(backend, last, ticket_of(ask(backend, first))).error is None
    assert backend.written("auralsam2_clips_total", prompts="points+box") == [1]
    assert backend.written("auralsam2_clips_total", prompts="audio") == []


@pytest.mark.parametrize("name", ["", "one for all", "golden-1"])
def test_clips_beyond_the_limit_are_refused_whatever_they_are_called_before_anything_is_computed(
    name: str, stage: Callable[..., Any], backend: Any
) -> None:
    first, last = stage("vggish", max_clips_in_flight="2"), stage("sam2_decoder", ends_clip="true")
    tickets = [ticket_of(ask(backend, first, id=name)) for _ in range(2)]
    calls = first._stage._engine.calls
    refused = ask(backend, first, id=name)
    assert refused.error.code == "UNAVAILABLE"
    assert refused.error.message == "[queue_full] vggish: the queue is full: 2 clips are in flight, at most 2 may be."
    assert first._stage._engine.calls == calls
    assert backend.written("auralsam2_rejected_total", stage="vggish", reason="queue_full") == [1]
    assert ask(backend, last, tickets[0], id=name).error is None
    assert ask(backend, first, id=name).error is None


def test_a_stage_takes_clips_from_the_stage_before_it_alone(stage: Callable[..., Any], backend: Any) -> None:
    first, last = stage("vggish", max_clips_in_flight="2"), stage("sam2_decoder", ends_clip="true")
    ticket = ticket_of(ask(backend, first))
    by_name, forged = ask(backend, last), ask(backend, last, np.arange(16, dtype=np.uint8))
    assert by_name.error.message.startswith("[bad_request] sam2_decoder: TICKET did not come.")
    assert forged.error.message == "[expired] sam2_decoder: this clip is not in flight (any more)."
    assert last._stage._engine.calls == 0
    assert backend.written("auralsam2_clips_total") == []
    assert ask(backend, last, ticket).error is None


def test_no_callers_timeout_is_longer_than_the_services(
    stage: Callable[..., Any], backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = stage("vggish", max_clips_in_flight="1", clip_timeout_s="600")
    ticket_of(ask(backend, first, timeout_us=2**62))
    clock = first._passage._table.admit.__globals__["time"]
    later = clock.monotonic() + 600 + GRACE_S + 1
    monkeypatch.setattr(clock, "monotonic", lambda: later)
    ticket_of(ask(backend, first))


@pytest.mark.parametrize(
    ("value", "more", "reason"),
    [(np.nan, {}, "bad_request"), (1.0, {"cancelled": True}, "cancelled")],
)
def test_a_clip_that_fails_on_its_way_gives_its_place_back(
    value: float, more: dict[str, Any], reason: str, stage: Callable[..., Any], backend: Any
) -> None:
    first, middle = stage("vggish", max_clips_in_flight="1"), stage("hiera")
    ticket = ticket_of(ask(backend, first))
    assert ask(backend, middle, ticket, value, **more).error is not None
    assert backend.written("auralsam2_rejected_total", stage="hiera", reason=reason) == [1]
    assert backend.written("auralsam2_clips_in_flight") == [0]
    assert ask(backend, first).error is None


def test_a_clip_whose_caller_is_gone_is_not_computed(
    stage: Callable[..., Any], backend: Any, adapter: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, middle = stage("vggish", max_clips_in_flight="1"), stage("hiera")
    ticket = ticket_of(ask(backend, first, timeout_us=2_000_000))
    clock = first._passage._table.admit.__globals__["time"]
    later = clock.monotonic() + 3
    monkeypatch.setattr(clock, "monotonic", lambda: later)
    late = ask(backend, middle, ticket)
    assert late.error.code == "UNAVAILABLE"
    assert late.error.message.startswith("[expired] hiera: ")
    assert middle._stage._engine.calls == 0
    assert backend.written("auralsam2_rejected_total", reason="expired") == [1]


def test_the_launcher_learns_what_became_of_each_clip(
    stage: Callable[..., Any], backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of one id, whose order changes on their way, one that is refused, and one that is not let in."""
    monkeypatch.setenv(SECRET_VARIABLE, SECRET)
    events: list[Event] = []
    pipe = RequestPipe(os.environ[LAUNCH_VARIABLE], events.append)
    try:
        first, last = stage("vggish", max_clips_in_flight="3"), stage("sam2_decoder", ends_clip="true")
        said = {"auralsam2-secret": SECRET, "auralsam2-caller": "192.0.2.1"}
        of_a, of_b = (ticket_of(ask(backend, first, id="one for all", said=who)) for who in (said, {}))
        refused = ticket_of(ask(backend, first, id="bad"))
        assert ask(backend, first, id="late").error is not None
        assert ask(backend, last, of_b, id="one for all").error is None
        assert ask(backend, last, of_a, id="one for all", said=said).error is None
        assert ask(backend, last, refused, np.nan, id="bad").error is not None
    finally:
        pipe.close()
    found: list[dict[str, Any]] = [dict(event.fields) for event in events]
    assert [(each["request"], each["code"], each.get("caller")) for each in found] == [
        ("late", "UNAVAILABLE", None),
        ("one for all", "OK", None),
        ("one for all", "OK", "192.0.2.1"),
        ("bad", "INVALID_ARGUMENT", None),
    ]
    assert [set(each["ms"]) - {"total"} for each in found[1:]] == [{"vggish", "sam2_decoder"}] * 2 + [{"vggish"}]


def test_a_server_that_stops_lets_nobody_in_and_those_inside_through(stage: Callable[..., Any], backend: Any) -> None:
    first, last = stage("vggish", max_clips_in_flight="8"), stage("sam2_decoder", ends_clip="true")
    inside = ticket_of(ask(backend, first))
    closing_path(os.environ[LAUNCH_VARIABLE]).touch()
    refused = ask(backend, first)
    assert refused.error.code == "UNAVAILABLE"
    assert refused.error.message.startswith("[unready] vggish: the server is stopping")
    assert backend.written("auralsam2_rejected_total", reason="unready") == [1]
    assert ask(backend, last, inside).error is None
    assert backend.written(IN_FLIGHT_METRIC) == [0]


def test_the_limit_can_be_set_for_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LIMIT_VARIABLE, "3")
    assert Role.from_parameters("vggish", {"max_clips_in_flight": "8"}).max_clips_in_flight == 3
    assert Role.from_parameters("hiera", {}).max_clips_in_flight is None
    monkeypatch.setenv(LIMIT_VARIABLE, "many")
    with pytest.raises(EngineError, match=r"max_clips_in_flight = 'many'; must be 1 to"):
        Role.from_parameters("vggish", {"max_clips_in_flight": "8"})


def test_without_a_server_nothing_is_written() -> None:
    quiet = Telemetry(object(), {})
    quiet.count("auralsam2_clips_total")
    quiet.observe("auralsam2_stage_duration_seconds", 1.0)
    quiet.set("auralsam2_clips_in_flight", 1)


def test_names_and_buckets_follow_the_rules_of_prometheus() -> None:
    for name, (kind, _) in FAMILIES.items():
        assert name.startswith("auralsam2_")
        assert name.endswith("_total") == (kind == "COUNTER")
        assert name.endswith("_seconds") == (kind == "HISTOGRAM")
    assert (SECONDS_BUCKETS[0], SECONDS_BUCKETS[-1]) == (0.001, 120.0)
    assert list(SECONDS_BUCKETS) == sorted(set(SECONDS_BUCKETS))
