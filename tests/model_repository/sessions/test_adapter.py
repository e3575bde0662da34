"""The sessions' adapter under a fake of the server's Python side: what it asks the stages, and what it answers.

Long because all of it needs the same stand-in for the stages.
"""

import importlib
import json
import os
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from auralsam2_client.contract import LAUNCH_VARIABLE, ROUNDS_UNDER_WAY_METRIC, Reason, closing_path
from model_repository.stage_runtime.engine.refusals import Refusal
from service.logs.events import Event
from service.logs.request_pipe import RequestPipe
from tests.model_repository.prompted_stand_in import CLIP, S, StandIn, T, features, heard, points

FRAMES, AUDIO = np.zeros((T, S, S, 3), np.uint8), np.zeros((T, 15600, 2), np.float32)
FILES = np.array([b"\xff\xd8\xff\xd9"] * T, np.object_)
NAMES = ["MASK_LOGITS", "IOU", "PROMPT_MODE", "SESSION_ID"]
TICKET = np.arange(16, dtype=np.uint8)
MARKS = ("POINT_COORDS", "POINT_LABELS", "MASK_INPUT", "PROMPT_FRAME", "USE_AUDIO", "STEP")
OPTIONAL = ("FRAMES", "AUDIO", "FRAMES_ENCODED", *MARKS, "SESSION_ID", "OPENING", "END")
PARAMETERS = {
    "engine": "openvino",
    "precision": "float32",
    "conditioning_frame": str(CLIP.conditioning_frame),
    "preset": "compact",
    "max_sessions": "2",
    "max_session_bytes": str(1 << 30),
    "session_idle_timeout_s": "1000",
    "session_give_way_s": "500",
}


class CardGone(Refusal):
    reason = Reason.UNREADY


class Stages:
    """The stages as the server calls them for a Python model."""

    def __init__(self, backend: Any) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.marks: list[tuple[str, int]] = []
        self.said: list[dict[str, str]] = []
        self.refusal: Any = None
        self._backend = backend

    def request(
        self,
        model_name: str,
        requested_output_names: list[str],
        inputs: list[Any],
        request_id: str,
        timeout: int,
        parameters: dict[str, str],
    ) -> Any:
        given = {tensor.name: tensor.as_numpy() for tensor in inputs}
        self.calls.append((model_name, given))
        self.marks.append((request_id, timeout))
        self.said.append(parameters)
        maps = {f"VISUAL_{n}": np.zeros(1, np.float32) for n in (1, 2, 3)}
        maps |= {f"SOUND_{n}": np.zeros(1, np.float32) for n in (1, 2, 3)} | {"TICKET": TICKET}
        values = features(1) | maps if model_name == "auralsam2_features" else heard(1)
        tensors = {name: self._backend.module.Tensor(name, values[name]) for name in requested_output_names}
        refusal = self.refusal
        response = SimpleNamespace(has_error=lambda: refusal is not None, error=lambda: refusal, tensors=tensors)
        return SimpleNamespace(exec=lambda: response)


@pytest.fixture
def stages(backend: Any) -> Stages:
    stages = Stages(backend)
    backend.module.InferenceRequest = stages.request
    backend.module.get_output_tensor_by_name = lambda response, name: response.tensors[name]
    return stages


@pytest.fixture
def module(backend: Any, stages: Stages) -> ModuleType:
    return importlib.import_module("model_repository.stage_runtime.sessions.adapter")


@pytest.fixture
def model(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(module.SessionModel, "load_decoder", lambda self, args, parameters, folder: StandIn())
    shapes = {"FRAMES": FRAMES.shape, "AUDIO": AUDIO.shape}
    config = {
        "input": [{"name": name, "dims": [*shapes.get(name, (1,))], "optional": True} for name in OPTIONAL],
        "parameters": {name: {"string_value": value} for name, value in PARAMETERS.items()},
    }
    model = module.SessionModel()
    model.initialize(
        {
            "model_name": "auralsam2_session",
            "model_version": "1",
            "model_repository": "models/auralsam2_session",
            "model_config": json.dumps(config),
        }
    )
    yield model
    model.finalize()
    assert not model._sweeper.is_alive()


@pytest.fixture
def pipe(backend: Any) -> Iterator[tuple[RequestPipe, list[Event]]]:
    """In which the model says what became of its requests; to be asked for before it."""
    events: list[Event] = []
    pipe = RequestPipe(os.environ[LAUNCH_VARIABLE], events.append)
    yield pipe, events
    pipe.close()


def text(value: str) -> Any:
    return np.array([value.encode()], np.object_)


def ask(model: Any, backend: Any, name: Any = None, *, end: bool = False, said: Any = None, **tensors: Any) -> Any:
    """`name`: the session's id, as text or as an answer has it; None starts one. `said`: parameters of the request."""
    given = tensors | ({} if name is None else {"SESSION_ID": text(name)}) | ({"END": np.array([True])} if end else {})
    (response,) = model.execute([backend.request(given, NAMES, said=said or {})])
    return response


def opened(model: Any, backend: Any, **tensors: Any) -> Any:
    return ask(model, backend, FRAMES=FRAMES, AUDIO=AUDIO, **tensors)


def id_of(response: Any) -> str:
    assert response.error is None, response.error.message
    return bytes(response.arrays()["SESSION_ID"][0]).decode()


def test_the_first_request_runs_the_stages_once_and_later_ones_none(model: Any, backend: Any, stages: Stages) -> None:
    first = opened(model, backend)
    assert first.error is None
    assert [name for name, _ in stages.calls] == ["auralsam2_features", "sam2_decoder"]
    assert stages.calls[0][1]["USE_AUDIO"].tolist() == [True]
    np.testing.assert_array_equal(first.arrays()["MASK_LOGITS"], heard(1)["MASK_LOGITS"])
    later = ask(model, backend, id_of(first), **points((1, 1, 1)))
    assert later.error is None
    assert set(later.arrays()) == set(NAMES)
    assert bytes(later.arrays()["PROMPT_MODE"][0]) == b"audio+points"
    assert len(stages.calls) == 2
    assert not backend.log


def test_without_sound_the_decoder_by_sound_is_not_asked(model: Any, backend: Any, stages: Stages) -> None:
    assert opened(model, backend, USE_AUDIO=np.array([False]), **points((1, 1, 1))).error is None
    assert [name for name, _ in stages.calls] == ["auralsam2_features"]
    assert stages.calls[0][1]["USE_AUDIO"].tolist() == [False]


def test_an_end_gives_back_with_a_last_round_or_without(model: Any, backend: Any) -> None:
    first, second = (id_of(opened(model, backend)) for _ in range(2))
    assert bytes(ask(model, backend, first, end=True).arrays()["PROMPT_MODE"][0]) == b"ended"
    answer = ask(model, backend, second, end=True, **points((1, 1, 1))).arrays()
    assert bytes(answer["PROMPT_MODE"][0]) == b"audio+points"
    assert len(model._sessions) == 0
    refused = ask(model, backend, second, **points((1, 1, 1)))
    assert refused.error.code == "INVALID_ARG"
    assert refused.error.message.startswith("[session_ended] This session has ended: its client ended it")


def test_a_round_shows_while_it_is_computed_and_a_server_that_stops_takes_no_more(
    model: Any, backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    open_session = model._sessions.open

    def noting(*given: Any) -> Any:
        seen.append(backend.written(ROUNDS_UNDER_WAY_METRIC))
        return open_session(*given)

    monkeypatch.setattr(model._sessions, "open", noting)
    name = id_of(opened(model, backend))
    assert (seen, backend.written(ROUNDS_UNDER_WAY_METRIC)) == ([[1]], [0])
    closing_path(os.environ[LAUNCH_VARIABLE]).touch()
    refused = ask(model, backend, name, **points((1, 1, 1)))
    assert refused.error.code == "UNAVAILABLE"
    assert refused.error.message.startswith("[unready] ")
    assert backend.written(ROUNDS_UNDER_WAY_METRIC) == [0]


def test_a_callers_mistakes_are_refused_and_not_logged(model: Any, backend: Any, stages: Stages) -> None:
    cases = [
        (ask(model, backend, "0" * 32, **points((1, 1, 1))), "has ended: it never was"),
        (ask(model, backend, FRAMES=FRAMES), "Neither SESSION_ID nor AUDIO came"),
        (ask(model, backend, **points((1, 1, 1))), "Update the client"),
        (ask(model, backend, AUDIO=AUDIO), "neither came"),
        (ask(model, backend, AUDIO=AUDIO, FRAMES=FRAMES, FRAMES_ENCODED=FILES), "both came"),
        (opened(model, backend, OPENING=text("x" * 65)), "OPENING has 65 bytes; at most 64"),
        (opened(model, backend, **points((1, 99, 1))), "outside the frame"),
        (opened(model, backend, USE_AUDIO=np.array([False])), "nothing says what to segment"),
    ]
    for response, words in cases:
        assert response.error.code == "INVALID_ARG"
        reason = "session_ended" if "has ended" in words else "bad_request"
        assert response.error.message.startswith(f"[{reason}] ")
        assert words in response.error.message
    assert not stages.calls
    again = ask(model, backend, id_of(opened(model, backend)), FRAMES=FRAMES, AUDIO=AUDIO)
    assert "Send prompts only" in again.error.message
    assert not backend.log


def test_the_stages_know_a_sessions_clip_and_let_it_go(
    model: Any, backend: Any, stages: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without sound the decoder, where clips leave, is not asked; nor is it after a refusal."""
    ended: list[tuple[bytes, bool]] = []
    monkeypatch.setattr(model._clips, "end", lambda clip, *, answered: ended.append((clip, answered)))
    opened(model, backend)
    assert stages.marks == [("session-clip-7", 0)] * 2
    assert opened(model, backend, USE_AUDIO=np.array([False]), **points((1, 1, 1))).error is None
    stages.refusal = SimpleNamespace(message=lambda: "the queue is full", code=lambda: "UNAVAILABLE")
    assert opened(model, backend).error.code == "UNAVAILABLE"
    assert ended == [(TICKET.tobytes(), False)] * 2


def test_a_session_is_its_callers_own_and_a_wrong_id_a_missing_one_and_anothers_are_refused_alike(
    model: Any, backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model._reception, "_behind_door", True)
    own, other = ({"auralsam2-caller": name} for name in ("192.0.2.1", "192.0.2.2"))
    name = id_of(ask(model, backend, said=own, FRAMES=FRAMES, AUDIO=AUDIO))
    assert len(bytes.fromhex(name)) == 16
    click = points((1, 1, 1))
    refusals = [
        ask(model, backend, given, said=said, **tensors)
        for given, said in ((name, other), ("f" * 32, own), ("", own), (name[:-1], own), ("tenant-a-session-1", own))
        for tensors in (click, {"end": True})
    ]
    assert {(each.error.code, each.error.message) for each in refusals} == {("INVALID_ARG", refusals[0].error.message)}
    assert refusals[0].error.message.startswith("[session_ended] This session has ended: it never was")
    assert ask(model, backend, name, said=own, **click).error is None


def test_an_opening_that_is_repeated_opens_one_session_for_its_own_caller(
    model: Any, backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model._reception, "_behind_door", True)
    opening = {"OPENING": text("aa" * 16), "FRAMES": FRAMES, "AUDIO": AUDIO}
    names = [id_of(ask(model, backend, said={"auralsam2-caller": who}, **opening)) for who in ("a", "a", "b")]
    assert names[0] == names[1] != names[2]
    assert len(model._sessions) == 2


def test_an_older_client_is_told_to_update_and_leaves_nothing_behind(model: Any, backend: Any, stages: Stages) -> None:
    clip = {"FRAMES": FRAMES, "AUDIO": AUDIO}
    (response,) = model.execute([backend.request(clip, NAMES[:-1])])
    assert response.error.message.startswith("[bad_request] The output SESSION_ID was not asked for.")
    assert "Update the client" in response.error.message
    assert (len(model._sessions), stages.calls) == (0, [])


def test_the_stages_learn_whose_clip_a_session_encodes(
    model: Any, backend: Any, stages: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model._reception, "_behind_door", True)
    monkeypatch.setattr(model._reception, "_secret", "5ec12e7")
    said = {"auralsam2-caller": "192.0.2.1"}
    model.execute([backend.request({"FRAMES": FRAMES, "AUDIO": AUDIO}, NAMES, said=said, id="golden-7")])
    rounds = {each["auralsam2_round"] for each in stages.said}
    rest = [{name: value for name, value in each.items() if name != "auralsam2_round"} for each in stages.said]
    assert rest == [{"auralsam2-secret": "5ec12e7", "auralsam2-caller": "192.0.2.1"}] * 2
    assert len(rounds) == 1, "both belong to one round, and say so"
    assert stages.marks == [("session-golden-7", 0)] * 2, "what a caller calls itself is not the service's word"


def test_the_launcher_learns_what_became_of_each_round(
    pipe: tuple[RequestPipe, list[Event]], model: Any, backend: Any
) -> None:
    name = id_of(opened(model, backend))
    ask(model, backend, name, **points((1, 1, 1)))
    ask(model, backend, "7", **points((1, 1, 1)))
    pipe[0].close()
    found = [dict(event.fields) for event in pipe[1]]
    assert [(each["session"], each["code"], each.get("mode"), each.get("frames")) for each in found] == [
        (True, "OK", "audio", T),
        (True, "OK", "audio+points", T),
        (True, "INVALID_ARGUMENT", None, None),
    ]


def test_sessions_and_their_rounds_are_counted(model: Any, backend: Any) -> None:
    assert backend.written("auralsam2_sessions") == [0]
    name = id_of(opened(model, backend))
    ask(model, backend, name, **points((1, 1, 1)))
    assert ask(model, backend, "7").error is not None
    assert backend.written("auralsam2_sessions") == [1]
    assert backend.written("auralsam2_session_bytes") == [model._sessions.num_bytes] != [0]
    labels = {"model": "compact", "precision": "float32"}
    assert backend.written("auralsam2_session_rounds_total", prompts="audio", **labels) == [1]
    assert backend.written("auralsam2_session_rounds_total", prompts="audio+points", **labels) == [1]
    ask(model, backend, name, end=True)
    assert backend.written("auralsam2_sessions") == [0]


def test_no_room_may_be_tried_again(model: Any, backend: Any) -> None:
    for _ in range(2):
        opened(model, backend)
    refused = opened(model, backend)
    assert refused.error.code == "UNAVAILABLE"
    assert refused.error.message.startswith("[session_limit] ")
    assert "at most 2 sessions" in refused.error.message


@pytest.mark.parametrize(
    ("said", "passed_on", "status"),
    [
        ("[bad_request] AUDIO: nan at [0, 1, 0]", "[bad_request] AUDIO: nan at [0, 1, 0]", "INVALID_ARG"),
        ("in ensemble 'auralsam2_features', [queue_full] no room", "[queue_full] no room", "UNAVAILABLE"),
        ("the server's own words", "the server's own words", "its status"),
    ],
)
def test_a_stages_refusal_comes_through_with_its_reason_and_status(
    model: Any, backend: Any, stages: Stages, said: str, passed_on: str, status: str
) -> None:
    stages.refusal = SimpleNamespace(message=lambda: said, code=lambda: "its status")
    refused = opened(model, backend)
    assert (refused.error.message, refused.error.code) == (passed_on, status)
    assert len(model._sessions) == 0


def test_our_own_error_is_logged_and_answered_without_its_text(
    model: Any, backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = id_of(opened(model, backend))

    def broken(self: Any, key: bytes, tensors: Any) -> Any:
        raise RuntimeError("/srv/secret: primitive failed")

    monkeypatch.setattr(type(model._sessions), "round", broken)
    response = ask(model, backend, name, **points((1, 1, 1)))
    assert (response.error.code, response.error.message) == (
        "INTERNAL",
        "[fault] auralsam2_session: failed inside the server; see its log.",
    )
    assert "primitive failed" in backend.log[0]


def test_a_cancelled_request_is_not_computed(model: Any, backend: Any, stages: Stages) -> None:
    (response,) = model.execute([backend.request({}, NAMES, cancelled=True)])
    assert response.error.code == "CANCELLED"
    assert response.error.message.startswith("[cancelled] auralsam2_session: ")
    assert not stages.calls


def test_limits_are_the_builds_unless_the_launcher_says_otherwise(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = module.limits_from_environment(PARAMETERS)
    assert vars(limits) == {"max_sessions": 2, "max_bytes": 1 << 30, "idle_timeout_s": 1000, "give_way_s": 500}
    monkeypatch.setenv("AURALSAM2_MAX_SESSIONS", "7")
    monkeypatch.setenv("AURALSAM2_SESSION_IDLE_TIMEOUT_S", "2.5")
    limits = module.limits_from_environment(PARAMETERS)
    assert (limits.max_sessions, limits.idle_timeout_s, limits.max_bytes) == (7, 2.5, 1 << 30)


def test_what_a_card_failed_with_is_told_and_logged(
    model: Any, backend: Any, stages: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = id_of(opened(model, backend))

    def broken(self: Any, key: bytes, tensors: Any) -> Any:
        raise RuntimeError("CUDA error: unspecified launch failure")

    monkeypatch.setattr(type(model._sessions), "round", broken)
    monkeypatch.setattr(type(model), "explain", lambda self, error: CardGone(f"{type(error).__name__}: a card is gone"))
    response = ask(model, backend, name, **points((1, 1, 1)))
    assert (response.error.code, response.error.message) == ("UNAVAILABLE", "[unready] RuntimeError: a card is gone")
    assert "unspecified launch failure" in backend.log[0]
